package authn

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// SessionCookie is the name of the web page's cookie. The __Host- prefix makes browsers insist on Secure, on the
	// path / and on no Domain.
	SessionCookie = "__Host-skerry-session"
	sessionLife   = 12 * time.Hour
	// maxSessions bounds memory; the session that ends first makes room.
	maxSessions   = 4096
	maxLoginBytes = 4096
)

// Sessions lets a browser trade a token for a cookie that scripts cannot read. A session is a random name for the token
// it was made from: revoking the token ends it at once, and so does a restart.
type Sessions struct {
	tokens Tokens
	now    func() time.Time

	mu   sync.Mutex
	open map[string]session
}

type session struct {
	token string
	ends  time.Time
}

// NewSessions makes an empty set of sessions over tokens. now is the clock, time.Now outside tests.
func NewSessions(tokens Tokens, now func() time.Time) *Sessions {
	return &Sessions{tokens: tokens, now: now, open: map[string]session{}}
}

// Authenticate finds the user of a session cookie. A cookie that is unknown or has ended counts as none, so that a page
// left open over a restart asks for the token instead of showing an error for ever. A state-changing request that does
// not show that it comes from our own page is refused.
func (s *Sessions) Authenticate(r *http.Request) (User, error) {
	cookie, err := r.Cookie(SessionCookie)
	if err != nil {
		return User{}, ErrNone
	}
	u, ok := s.user(cookie.Value)
	if !ok {
		return User{}, ErrNone
	}
	if err := SameOrigin(r); err != nil {
		return User{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	u.Cookie = true
	return u, nil
}

// SameOrigin returns an error for a state-changing request that a browser sent from another site, or that does not say
// where it comes from.
func SameOrigin(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return errors.New("a request with the session cookie must carry an Origin header")
	}
	return http.NewCrossOriginProtection().Check(r)
}

func (s *Sessions) user(id string) (User, bool) {
	s.mu.Lock()
	open, ok := s.open[id]
	if ok && s.now().After(open.ends) {
		delete(s.open, id)
		ok = false
	}
	s.mu.Unlock()
	if !ok {
		return User{}, false
	}
	return s.tokens.Lookup(open.token)
}

// ServeHTTP is the resource /ui/session: POST {"token": "..."} (JSON or a form) sets the cookie, DELETE ends the session,
// GET says who is logged in. Answers are JSON.
func (s *Sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodPost:
		s.login(w, r)
	case http.MethodDelete:
		s.logout(w, r)
	case http.MethodGet:
		s.whoami(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		answer(w, http.StatusMethodNotAllowed, "error", "use GET, POST or DELETE")
	}
}

func (s *Sessions) login(w http.ResponseWriter, r *http.Request) {
	// A login that another site triggers would log the visitor in as somebody else.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		answer(w, http.StatusForbidden, "error", err.Error())
		return
	}
	token, err := loginToken(w, r)
	if err != nil {
		answer(w, http.StatusBadRequest, "error", err.Error())
		return
	}
	u, ok := s.tokens.Lookup(token)
	if !ok {
		answer(w, http.StatusUnauthorized, "error", "this token is not known; find yours in the kubeconfig file, under users")
		return
	}
	http.SetCookie(w, cookie(s.start(token), int(sessionLife.Seconds())))
	answer(w, http.StatusOK, "user", u.Name)
}

func (s *Sessions) start(token string) string {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxSessions {
		s.dropOldest()
	}
	s.open[id] = session{token: token, ends: s.now().Add(sessionLife)}
	return id
}

func (s *Sessions) dropOldest() {
	oldest := ""
	for id, o := range s.open {
		if oldest == "" || o.ends.Before(s.open[oldest].ends) {
			oldest = id
		}
	}
	delete(s.open, oldest)
}

func (s *Sessions) logout(w http.ResponseWriter, r *http.Request) {
	if err := SameOrigin(r); err != nil {
		answer(w, http.StatusForbidden, "error", err.Error())
		return
	}
	if c, err := r.Cookie(SessionCookie); err == nil {
		s.mu.Lock()
		delete(s.open, c.Value)
		s.mu.Unlock()
	}
	http.SetCookie(w, cookie("", -1))
	answer(w, http.StatusOK, "user", "")
}

func (s *Sessions) whoami(w http.ResponseWriter, r *http.Request) {
	u, err := s.Authenticate(r)
	if err != nil {
		answer(w, http.StatusUnauthorized, "error", "no session")
		return
	}
	answer(w, http.StatusOK, "user", u.Name)
}

func cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	}
}

func loginToken(w http.ResponseWriter, r *http.Request) (string, error) {
	body := http.MaxBytesReader(w, r.Body, maxLoginBytes)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		r.Body = body
		if err := r.ParseForm(); err != nil {
			return "", fmt.Errorf("read form: %w", err)
		}
		return r.PostForm.Get("token"), nil
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return "", fmt.Errorf("read body: %w", err)
	}
	var in struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return "", errors.New(`the body must be JSON: {"token": "..."}`)
	}
	return in.Token, nil
}

// answer writes a one-field JSON object. A failed write means that the client is gone.
func answer(w http.ResponseWriter, code int, key, value string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{key: value})
}
