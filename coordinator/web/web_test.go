package web_test

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestPageIsStrictAboutWhatItLoads(t *testing.T) {
	s := newSite(t)
	resp := s.do("GET", "/ui/", "", nil)
	body, err := io.ReadAll(resp.body)
	if err != nil || resp.code != http.StatusOK {
		t.Fatalf("%d: %v", resp.code, err)
	}
	policy := resp.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy allows the unsafe: %s", policy)
	}
	if resp.header.Get("X-Content-Type-Options") != "nosniff" || resp.header.Get("Referrer-Policy") != "no-referrer" || resp.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("headers: %v", resp.header)
	}
	if regexp.MustCompile(`<script[^>]*>[^<]|\son\w+=|\sstyle=|https?://`).Match(body) {
		t.Error("the page has inline code or style, or an address outside")
	}
}

func TestAssets(t *testing.T) {
	s := newSite(t)
	total := 0
	err := fs.WalkDir(os.DirFS("static"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		resp := s.do("GET", "/ui/"+name, "", nil)
		body, err := io.ReadAll(resp.body)
		if err != nil || resp.code != http.StatusOK || len(body) == 0 || resp.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d, %d bytes (%v)", name, resp.code, len(body), err)
		}
		total += len(body)
		again := s.do("GET", "/ui/"+name, "", nil, "If-None-Match", resp.header.Get("Etag"))
		if again.code != http.StatusNotModified {
			t.Errorf("%s again: %d", name, again.code)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const most = 60 << 10
	if total > most {
		t.Errorf("the page has %d bytes, more than %d", total, most)
	}
}

func TestBrowsersFindThePage(t *testing.T) {
	s := newSite(t)
	page := s.do("GET", "/", "", nil, "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if page.code != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("a browser gets %d %s", page.code, page.header.Get("Content-Type"))
	}
	if program := s.do("GET", "/", "", nil, "Accept", "*/*"); program.code != http.StatusForbidden {
		t.Errorf("a program without credentials gets %d", program.code)
	}
	if program := s.do("GET", "/", adminToken, nil); program.code != http.StatusOK || program.header.Get("Content-Type") != "application/json" {
		t.Errorf("a program gets %d %s", program.code, program.header.Get("Content-Type"))
	}
}

func TestPageIsOnlyRead(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]int{"/ui": http.StatusOK, "/ui/nothing": http.StatusNotFound, "/ui/../static/app.js": http.StatusNotFound, "/ui/static/app.js": http.StatusNotFound} {
		if resp := s.do("GET", path, "", nil); resp.code != want {
			t.Errorf("%s: %d, want %d", path, resp.code, want)
		}
	}
	resp := s.do("POST", "/ui/", adminToken, "x")
	if resp.code != http.StatusMethodNotAllowed || resp.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, %v", resp.code, resp.header)
	}
	if resp := s.do("HEAD", "/ui/app.js", "", nil); resp.code != http.StatusOK {
		t.Errorf("HEAD: %d", resp.code)
	}
}
