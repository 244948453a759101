package authn_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

var tokens = authn.NewStaticTokens(map[string]authn.User{
	"good": {Name: "ada", Groups: []string{"crew"}},
	"":     {Name: "nobody"},
})

func verified(cn string, groups ...string) *tls.ConnectionState {
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: groups}}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
}

func TestCredentials(t *testing.T) {
	unverified := verified("mallory", "system:masters")
	unverified.VerifiedChains = nil
	tests := []struct {
		name   string
		set    func(r *http.Request)
		user   string
		groups []string
		err    error
	}{
		{"nothing", func(*http.Request) {}, "", nil, authn.ErrNone},
		{"certificate", func(r *http.Request) { r.TLS = verified("bob", "ops") }, "bob", []string{"ops", "system:authenticated"}, nil},
		{"certificate that nobody verified", func(r *http.Request) { r.TLS = unverified }, "", nil, authn.ErrNone},
		{"certificate without a name", func(r *http.Request) { r.TLS = verified("", "ops") }, "", nil, authn.ErrNone},
		{"token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer good") }, "ada", []string{"crew", "system:authenticated"}, nil},
		{"token, scheme in lower case", func(r *http.Request) { r.Header.Set("Authorization", "bearer good") }, "ada", []string{"crew", "system:authenticated"}, nil},
		{"wrong token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer bad") }, "", nil, authn.ErrRefused},
		{"empty token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, "", nil, authn.ErrNone},
		{"password", func(r *http.Request) { r.SetBasicAuth("anyone", "good") }, "ada", []string{"crew", "system:authenticated"}, nil},
		{"wrong password", func(r *http.Request) { r.SetBasicAuth("ada", "bad") }, "", nil, authn.ErrRefused},
		{"empty password", func(r *http.Request) { r.SetBasicAuth("ada", "") }, "", nil, authn.ErrRefused},
		{"other scheme", func(r *http.Request) { r.Header.Set("Authorization", "Digest good") }, "", nil, authn.ErrNone},
		{"certificate before token", func(r *http.Request) {
			r.TLS = verified("bob")
			r.Header.Set("Authorization", "Bearer bad")
		}, "bob", []string{"system:authenticated"}, nil},
	}
	union := authn.Union{authn.Certificates{}, authn.Bearer{Tokens: tokens}, authn.NewSessions(tokens, time.Now)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "https://host/", nil)
			r.TLS = nil
			tt.set(r)
			u, err := union.Authenticate(r)
			if !errors.Is(err, tt.err) || u.Name != tt.user || !slices.Equal(u.Groups, tt.groups) {
				t.Errorf("got %q %v, %v; want %q %v, %v", u.Name, u.Groups, err, tt.user, tt.groups, tt.err)
			}
		})
	}
}

// login makes a session and returns its cookie.
func login(t *testing.T, s *authn.Sessions, token string, headers ...string) (*http.Cookie, int) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://host/ui/session", strings.NewReader(`{"token":"`+token+`"}`))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		return c, w.Code
	}
	return nil, w.Code
}

func TestSessionCookieCannotBeReadOrSentFromElsewhere(t *testing.T) {
	c, code := login(t, authn.NewSessions(tokens, time.Now), "good")
	if code != http.StatusOK || c == nil {
		t.Fatalf("login: %d", code)
	}
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || strings.Contains(c.Value, "good") {
		t.Errorf("cookie %+v", c)
	}
	if c, code := login(t, authn.NewSessions(tokens, time.Now), "bad"); code != http.StatusUnauthorized || c != nil {
		t.Errorf("wrong token: %d, cookie %v", code, c)
	}
	if c, code := login(t, authn.NewSessions(tokens, time.Now), "good", "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden || c != nil {
		t.Errorf("login from another site: %d, cookie %v", code, c)
	}
}

func TestSessionRequests(t *testing.T) {
	s := authn.NewSessions(tokens, time.Now)
	cookie, _ := login(t, s, "good")
	tests := []struct {
		name, method string
		headers      map[string]string
		err          error
	}{
		{"read", http.MethodGet, nil, nil},
		{"read from another site", http.MethodGet, map[string]string{"Origin": "https://evil"}, nil}, // SameSite keeps the cookie away
		{"write from our page", http.MethodPost, map[string]string{"Origin": "https://host"}, nil},
		{"write, new browser", http.MethodDelete, map[string]string{"Sec-Fetch-Site": "same-origin"}, nil},
		{"write from another site", http.MethodPost, map[string]string{"Origin": "https://evil"}, authn.ErrRefused},
		{"write from a sibling", http.MethodPatch, map[string]string{"Sec-Fetch-Site": "same-site"}, authn.ErrRefused},
		{"write that does not say", http.MethodPut, nil, authn.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "https://host/api/v1/pods", nil)
			r.AddCookie(cookie)
			for k, v := range tt.headers {
				r.Header.Set(k, v)
			}
			u, err := s.Authenticate(r)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && (u.Name != "ada" || !u.Cookie) {
				t.Errorf("user %+v", u)
			}
		})
	}
}

func TestSessionEnds(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := authn.NewSessions(tokens, func() time.Time { return now })
	cookie, _ := login(t, s, "good")
	valid := func() bool {
		r := httptest.NewRequest(http.MethodGet, "https://host/", nil)
		r.AddCookie(cookie)
		_, err := s.Authenticate(r)
		return err == nil
	}
	if now = now.Add(11 * time.Hour); !valid() {
		t.Error("ended too early")
	}
	if now = now.Add(2 * time.Hour); valid() {
		t.Error("did not end")
	}
	cookie, _ = login(t, s, "good")
	r := httptest.NewRequest(http.MethodDelete, "https://host/ui/session", nil)
	r.Header.Set("Origin", "https://host")
	r.AddCookie(cookie)
	s.ServeHTTP(httptest.NewRecorder(), r)
	if valid() {
		t.Error("logged out, but the cookie still works")
	}
}

// A revoked token ends the sessions made from it.
func TestSessionDiesWithItsToken(t *testing.T) {
	revocable := &revocable{user: authn.User{Name: "ada"}, ok: true}
	s := authn.NewSessions(revocable, time.Now)
	cookie, _ := login(t, s, "any")
	revocable.ok = false
	r := httptest.NewRequest(http.MethodGet, "https://host/", nil)
	r.AddCookie(cookie)
	if _, err := s.Authenticate(r); !errors.Is(err, authn.ErrNone) {
		t.Errorf("error %v, want none", err)
	}
}

type revocable struct {
	user authn.User
	ok   bool
}

func (r *revocable) Lookup(string) (authn.User, bool) { return r.user, r.ok }

func TestSessionsAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := authn.NewSessions(tokens, func() time.Time { now = now.Add(time.Millisecond); return now })
	first, _ := login(t, s, "good")
	for range 4096 {
		login(t, s, "good")
	}
	last, _ := login(t, s, "good")
	for cookie, want := range map[*http.Cookie]bool{first: false, last: true} {
		r := httptest.NewRequest(http.MethodGet, "https://host/", nil)
		r.AddCookie(cookie)
		if _, err := s.Authenticate(r); (err == nil) != want {
			t.Errorf("session valid: %v, want %v", err == nil, want)
		}
	}
}
