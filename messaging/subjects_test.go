package messaging_test

import (
	"strings"
	"testing"

	"skerry.dev/skerry/messaging"
)

func TestToken(t *testing.T) {
	for in, want := range map[string]string{
		"": "_", "_": "=5F", "a_b": "a_b", "web-1": "web-1", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", "=": "=3D", "ü": "=C3=BC", " ": "=20",
	} {
		if got := messaging.Token(in); got != want {
			t.Errorf("Token(%q) = %q, want %q", in, got, want)
		}
	}
	for _, bad := range []string{"=", "=4", "=GG", "a=2", "=2e", "=+1", "= 1"} {
		if got, err := messaging.ParseToken(bad); err == nil {
			t.Errorf("ParseToken(%q) = %q", bad, got)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "_", "a.b", "=2E", "x y", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token := messaging.Token(s)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Fatalf("Token(%q) = %q is not one token", s, token)
		}
		if back, err := messaging.ParseToken(token); err != nil || back != s {
			t.Fatalf("Token(%q) = %q, back %q, error %v", s, token, back, err)
		}
		// A key has one spelling only: what parses must be what Token would have written.
		if text, err := messaging.ParseToken(s); err == nil && messaging.Token(text) != s {
			t.Fatalf("ParseToken(%q) = %q, which Token writes as %q", s, text, messaging.Token(text))
		}
	})
}
