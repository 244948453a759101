package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiversion "k8s.io/apimachinery/pkg/version"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Version is the Kubernetes version whose API is served; clients choose what they do by it.
const Version = "v1.37.2+skerry"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(w, r)
	hurry(w, r, s.BodyLimit)
	defer hurry(w, r, min(restLimit, s.BodyLimit))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.refuseConnection(w, r) || s.servePublic(w, r) {
		return
	}
	s.serve(w, r.WithContext(s.follow(r.Context(), w)))
}

// serve answers a request that leaves a trail.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if m, ok := s.mount(r.URL.Path); ok {
		s.serveMount(w, r, m)
		return
	}
	user, err := s.user(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	r = r.WithContext(authn.NewContext(r.Context(), user))
	if t, ok := parseTarget(r.URL.Path); ok {
		s.serveResource(w, r, t, user)
		return
	}
	s.servePath(w, r, user)
}

// refuse answers with an error, and leaves a line of it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.writeError(w, r, err)
	s.auditRefusal(r, err)
}

// user is who asks, or on whose behalf. A request without credentials is anybody's.
func (s *Server) user(r *http.Request) (authn.User, error) {
	user, err := s.Authenticator.Authenticate(r)
	if errors.Is(err, authn.ErrNone) {
		user, err = authn.Anonymous(), nil
	}
	if err != nil {
		return authn.User{}, s.unauthorized(r, err)
	}
	return s.impersonate(r, user)
}

// setWriteDeadline limits how long the client may take; a zero time lifts the limit. Writers without deadlines, as in
// tests, have none.
func setWriteDeadline(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetWriteDeadline(at)
}

// restLimit is how long a client may take to send the rest of a body that nobody reads.
const restLimit = 5 * time.Second

// hurry limits how long a client may take to send what it still has to send. Of HTTP/1 net/http reads a body that no
// handler wants, to use the connection again, and would wait for it for ever.
func hurry(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		setReadDeadline(w, time.Now().Add(limit))
	}
}

// setReadDeadline is setWriteDeadline for what the client sends.
func setReadDeadline(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(at)
}

// recover keeps one request's bug from ending the coordinator. A handler that aborts on purpose is left to net/http.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.log.Error("request handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.writeError(w, r, apierrors.NewInternalError(errors.New("see the coordinator's log")))
}

// unauthorized is the answer to a request without good credentials. It says nothing about which part was wrong.
func (s *Server) unauthorized(r *http.Request, err error) error {
	if !errors.Is(err, authn.ErrNone) && !errors.Is(err, authn.ErrRefused) {
		return fmt.Errorf("authenticate: %w", err)
	}
	s.log.Debug("request without good credentials", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
	return apierrors.NewUnauthorized("Unauthorized")
}

// servePublic answers what needs no credentials: health, version, and where the page is.
func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch path {
	case "":
		if s.Home == "" || r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "text/html") {
			return false
		}
		http.Redirect(w, r, s.Home, http.StatusFound)
	case "/healthz", "/livez", "/readyz":
		s.serveHealth(w, path == "/readyz")
	case "/version":
		s.serveVersion(w, r)
	default:
		return false
	}
	return true
}

func (s *Server) serveHealth(w http.ResponseWriter, ready bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache, private")
	if ready {
		if err := s.ready(); err != nil {
			writeBody(w, http.StatusServiceUnavailable, []byte("not ready: "+err.Error()+"\n"))
			return
		}
	}
	writeBody(w, http.StatusOK, []byte("ok"))
}

func (s *Server) ready() error {
	select {
	case <-s.view.Synced():
	default:
		return errors.New("the state is not read from the store yet")
	}
	if s.Ready == nil {
		return nil
	}
	return s.Ready()
}

func (s *Server) serveVersion(w http.ResponseWriter, r *http.Request) {
	body, err := json.MarshalIndent(apiversion.Info{
		Major: "1", Minor: "37", GitVersion: Version, GitCommit: s.Build, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}, "", "  ")
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-cache, private")
	writeBody(w, http.StatusOK, body)
}

// mount finds the longest prefix that fits. /ui is taken for /ui/.
func (s *Server) mount(path string) (Mount, bool) {
	best := ""
	for prefix := range s.Mounts {
		if (strings.HasPrefix(path, prefix) || path+"/" == prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return s.Mounts[best], best != ""
}

// serveMount hands the request on with its user. The handler sets its own limits: uploads take long. Strangers may not take
// long to send theirs.
func (s *Server) serveMount(w http.ResponseWriter, r *http.Request, m Mount) {
	user, err := s.Authenticator.Authenticate(r)
	if errors.Is(err, authn.ErrNone) && m.Public {
		user, err = authn.Anonymous(), nil
	}
	if err != nil {
		if m.Challenge != "" {
			w.Header().Set("WWW-Authenticate", m.Challenge)
		}
		s.refuse(w, r, s.unauthorized(r, err))
		return
	}
	if user, err = s.impersonate(r, user); err != nil {
		s.refuse(w, r, err)
		return
	}
	if !m.Public {
		if err := s.authorize(r.Context(), access.Attributes{User: user, Verb: strings.ToLower(r.Method), Path: r.URL.Path}); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	setWriteDeadline(w, time.Time{})
	if m.Public {
		setReadDeadline(w, time.Now().Add(s.BodyLimit))
	} else {
		setReadDeadline(w, time.Time{}) // uploads take long, too
	}
	ctx := authn.NewContext(r.Context(), user)
	if m.Streams {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer endWithServer(ctx, cancel)()
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead { // leaves no line, and may stream
		m.Handler.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	answer := &coded{ResponseWriter: w}
	m.Handler.ServeHTTP(answer, r.WithContext(ctx))
	s.auditPath(r, answer.code)
}

// servePath answers paths that are for no resource.
func (s *Server) servePath(w http.ResponseWriter, r *http.Request, user authn.User) {
	a := access.Attributes{User: user, Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if err := s.authorize(r.Context(), a); err != nil {
		s.refuse(w, r, err)
		return
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		s.writeError(w, r, errNoRoute(r))
	case s.discovery.serve(w, r), s.openapi.Serve(w, r), s.serveIssuer(w, r):
	case r.URL.Path == "/":
		s.serveRoot(w, r)
	default:
		s.writeError(w, r, errNoRoute(r))
	}
}

// serveRoot lists the paths, as upstream.
func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	for p := range s.discovery.docs {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	body, err := json.MarshalIndent(map[string][]string{"paths": paths}, "", "  ")
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	writeBody(w, http.StatusOK, body)
}
