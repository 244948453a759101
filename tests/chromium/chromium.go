// Package chromium drives a headless Chromium with one page, for tests of the web page. It keeps what the page complains
// of, so that a test can insist on silence.
package chromium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	limit = 60 * time.Second // for one step: machines are slow and busy
	again = 50 * time.Millisecond
)

var errNotYet = errors.New("it does not come")

// Page is the browser's only page.
type Page struct {
	testing.TB
	ctx       context.Context
	artifacts string

	mu      sync.Mutex
	faults  []string
	outside []string
}

// New starts the browser, which ends with the test. Screenshots go to the folder artifacts.
func New(t testing.TB, artifacts string) *Page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("the web page is tested in Chromium: apt-get install chromium")
	}
	folder := folder(t)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.IgnoreCertErrors, chromedp.UserDataDir(folder), chromedp.Env("TMPDIR="+folder), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1400, 900))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(t.Logf)) // it calls newer events of the browser errors
	t.Cleanup(cancel)
	p := &Page{TB: t, ctx: ctx, artifacts: artifacts}
	chromedp.ListenTarget(ctx, p.hear)
	if err := chromedp.Run(ctx, log.Enable(), network.Enable()); err != nil { // not through Run: the first context holds the browser
		t.Fatal(err)
	}
	return p
}

// folder is where the browser keeps its files. Its helper processes write there until shortly after the browser has ended,
// which t.TempDir would call an error.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(limit); ; time.Sleep(again) {
			if err := os.RemoveAll(dir); err == nil {
				return
			} else if time.Now().After(deadline) {
				t.Errorf("remove the browser's files: %v", err)
				return
			}
		}
	})
	return dir
}

// hear collects what the page's console says in anger, and which addresses it asks.
func (p *Page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.faults = append(p.faults, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError {
			p.faults = append(p.faults, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		p.outside = append(p.outside, e.Request.URL)
	}
}

// Faults are the errors on the console so far, but those that hold one of the expected texts.
func (p *Page) Faults(expected ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.faults), func(fault string) bool {
		return slices.ContainsFunc(expected, func(text string) bool { return strings.Contains(fault, text) })
	})
}

// Outside are the addresses that the page asked and that do not begin with base.
func (p *Page) Outside(base string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.outside), func(url string) bool {
		return strings.HasPrefix(url, base) || strings.HasPrefix(url, "about:") || strings.HasPrefix(url, "data:")
	})
}

// Run does the actions one after another.
func (p *Page) Run(actions ...chromedp.Action) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.fail(err)
	}
}

// Until waits until a JavaScript expression holds.
func (p *Page) Until(what, expression string) {
	p.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok := false
		err := chromedp.Run(p.ctx, chromedp.Evaluate("Boolean("+expression+")", &ok))
		switch {
		case ok:
			return
		case time.Now().After(deadline):
			p.fail(fmt.Errorf("wait for %s: %w", what, cmp.Or(err, errNotYet)))
		}
		time.Sleep(again)
	}
}

// Text is what the whole page says.
func (p *Page) Text() string {
	p.Helper()
	var text string
	p.Run(chromedp.Evaluate("document.body.innerText", &text))
	return text
}

func (p *Page) fail(err error) {
	p.Helper()
	p.Shot("failed")
	var text string
	_ = chromedp.Run(p.ctx, chromedp.Evaluate("document.body.innerText", &text)) // the error at hand matters more
	p.Fatalf("%v\nthe page says:\n%.3000s\nthe console says: %v", err, text, p.Faults())
}

// Has is an expression that is true when an element that fits the selector shows the text.
func Has(selector, text string) string {
	return fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q))", selector, text)
}

// Screen sets the size of the screen. Phones have touch and a fine display.
func (p *Page) Screen(width, height int64, phone bool) {
	p.Helper()
	scale := 1.0
	if phone {
		scale = 2
	}
	p.Run(emulation.SetDeviceMetricsOverride(width, height, scale, phone))
}

// Prefer sets what the person prefers, for instance prefers-color-scheme and dark.
func (p *Page) Prefer(name, value string) {
	p.Helper()
	p.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: name, Value: value}}))
}

// Shot writes a picture of the screen to the artifacts.
func (p *Page) Shot(name string) {
	p.Helper()
	var png []byte
	if err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		p.Logf("screenshot %s: %v", name, err)
		return
	}
	if err := os.MkdirAll(p.artifacts, 0o755); err != nil {
		p.Error(err)
	}
	if err := os.WriteFile(filepath.Join(p.artifacts, name+".png"), png, 0o644); err != nil {
		p.Error(err)
	}
}
