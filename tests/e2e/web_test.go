package e2e

import (
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

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"skerry.dev/skerry/tests/cluster"
)

// browser is headless Chromium with one page, and what the page complained of.
type browser struct {
	*testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("the web page is tested in Chromium: apt-get install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1400, 900))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{T: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.hear)
	if err := chromedp.Run(ctx, log.Enable()); err != nil { // not through run: the first context holds the browser
		t.Fatal(err)
	}
	return b
}

// hear collects what the page's console says in anger.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError && !strings.Contains(e.Entry.Text, "401") { // the page asks whether it is logged in
			b.faults = append(b.faults, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (b *browser) run(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.shot("failed")
		b.Fatal(err)
	}
}

// until waits until a JavaScript expression holds.
func (b *browser) until(what, expression string) {
	b.Helper()
	err := cluster.Poll(b.ctx, limit, what, func() (bool, error) {
		var ok bool
		err := chromedp.Run(b.ctx, chromedp.Evaluate("Boolean("+expression+")", &ok))
		return ok, err
	})
	if err != nil {
		b.shot("failed")
		var text string
		_ = chromedp.Run(b.ctx, chromedp.Evaluate("document.body.innerText", &text))
		b.Fatalf("%v\nthe page says:\n%.2000s", err, text)
	}
}

// has is an expression that is true when an element shows a text.
func has(selector, text string) string {
	return fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q))", selector, text)
}

func (b *browser) shot(name string) {
	b.Helper()
	var png []byte
	if err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		b.Logf("screenshot %s: %v", name, err)
		return
	}
	dir := filepath.Join(shared.Root, "tests", "artifacts")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "web-"+name+".png"), png, 0o644)); err != nil {
		b.Error(err)
	}
}

func TestWebPage(t *testing.T) {
	s := newSpace(t)
	b := newBrowser(t)

	// Without a session there is a form, and a wrong token is refused in words.
	b.run(chromedp.Navigate(shared.State0.API+"/ui/"), chromedp.WaitVisible("#login[open]"),
		chromedp.SendKeys("#token", "guess"+kb.Enter))
	b.until("refusal", has("#login-error", "token is not known"))

	// The address that `skerry up` prints logs in, and the token does not stay in it.
	b.run(chromedp.Navigate("about:blank"), chromedp.Navigate(shared.State0.Page))
	b.until("three nodes", "document.querySelectorAll('article.card').length >= 3 && "+has(".card", "ready"))
	b.until("token gone from the address", "!location.href.includes('token')")
	b.until("hardware", has(".card", "threads")+" && "+has(".card", "asked of"))
	b.run(chromedp.Click("details > summary"))
	b.until("hardware in detail", has("details[open]", "Kernel"))
	b.shot("nodes")

	// What changes in the cluster shows without a reload.
	b.run(chromedp.KeyEvent("2"))
	b.until("workloads", "location.hash === '#/workloads'")
	s.apply(fmt.Sprintf(serveDeployment, "page-test", 2))
	b.until("two pods and why they are there", has(".group h2", "page-test")+" && "+has(".group h2", "2/2 available")+
		" && [...document.querySelectorAll('tr[data-open*=\"page-test\"]')].length === 2 && "+has("tr[data-open*='page-test'] .why", "n"))
	b.shot("workloads")
	s.kubectl("scale deployment/page-test --replicas=3")
	b.until("the third", has(".group h2", "3/3 available"))

	// By keyboard alone: filter, choose, open, read, close.
	b.run(input.DispatchKeyEvent(input.KeyRawDown).WithKey("/"), chromedp.KeyEvent("page-test")) // raw: the page keeps the "/" for itself
	b.until("filtered", "document.activeElement.id === 'filter' && ![...document.querySelectorAll('tr[data-open]')].some((r) => !r.innerText.includes('page-test'))")
	b.run(chromedp.Evaluate("document.activeElement.blur()", nil), chromedp.KeyEvent("j"), chromedp.KeyEvent(kb.Enter))
	b.until("details with events and log", has("#drawer", "Scheduled")+" && "+has("#drawer", "Log, last 200 lines"))
	b.shot("pod")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until("closed, focus back on the row", "document.querySelector('#drawer').hidden && document.activeElement.matches('tr[data-open]')")
	b.run(chromedp.KeyEvent("?"))
	b.until("help", "document.querySelector('#help').open")
	b.run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("3"))
	b.until("events", "location.hash === '#/events' && "+has("tbody tr", "Scheduled"))
	b.shot("events")

	// On a phone nothing hangs over the edge; in the dark it is dark.
	b.run(emulation.SetDeviceMetricsOverride(360, 740, 2, true), chromedp.KeyEvent("1"))
	b.until("fits a phone", "location.hash === '#/nodes' && document.documentElement.scrollWidth <= 360")
	b.shot("phone")
	b.run(chromedp.KeyEvent("2"))
	b.until("workloads fit a phone", "location.hash === '#/workloads' && document.documentElement.scrollWidth <= 360")
	b.run(emulation.SetDeviceMetricsOverride(1400, 900, 1, false),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}), chromedp.KeyEvent("1"))
	b.until("dark", "getComputedStyle(document.documentElement).backgroundColor === 'rgb(16, 24, 28)'")
	b.shot("dark")

	b.run(chromedp.Click("#logout"))
	b.until("logged out, with nothing left on the page", "document.querySelector('#login').open && document.querySelectorAll('article.card').length === 0")
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) > 0 {
		t.Errorf("the console shows:\n%s", strings.Join(b.faults, "\n"))
	}
}

// serveDeployment takes a name and a number of replicas.
const serveDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: c
        image: registry.skerry/testimage:1
        args: [serve]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
`
