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
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy allows the unsafe: %s", policy)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "no-referrer" || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("headers: %v", resp.Header)
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
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || len(body) == 0 || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %s, %d bytes (%v)", name, resp.Status, len(body), err)
		}
		total += len(body)
		again := s.do("GET", "/ui/"+name, "", nil, "If-None-Match", resp.Header.Get("Etag"))
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %s", name, again.Status)
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

func TestPageIsOnlyRead(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]int{"/ui": http.StatusOK, "/ui/nothing": http.StatusNotFound, "/ui/../static/app.js": http.StatusNotFound, "/ui/static/app.js": http.StatusNotFound} {
		if resp := s.do("GET", path, "", nil); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	resp := s.do("POST", "/ui/", adminToken, "x")
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s, %v", resp.Status, resp.Header)
	}
	if resp := s.do("HEAD", "/ui/app.js", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("HEAD: %s", resp.Status)
	}
}
