package apiserver

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/shares"
)

// serveResource answers a request for a resource and leaves its line in the audit log.
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request, t target, user authn.User) {
	c := &call{target: t, verb: verbOf(r, t), user: user, query: r.URL.Query(), w: w, r: r, bodies: &s.bodies, bodyLimit: s.BodyLimit}
	defer func() { s.bodies.give(c.weight) }()
	c.keeps = s.Audit.Level() == auditv1.LevelRequest
	err := s.prepare(r.Context(), c)
	about := Request{}
	if err == nil {
		about = c.observed()
	}
	end := s.Observer.Begin(about)
	defer func() { end(cmp.Or(c.code, http.StatusInternalServerError)) }() // a handler that panics has no code
	if err == nil {
		err = s.handle(c)
	}
	if err != nil {
		c.code = s.writeError(w, r, err)
	}
	if err != nil || !c.audited {
		s.audit(c, err)
	}
}

// prepare finds out what is asked for, and refuses what may not be asked or is not served.
func (s *Server) prepare(ctx context.Context, c *call) error {
	if err := s.synced(ctx); err != nil { // who may do what is part of the state
		return err
	}
	if err := s.authorize(ctx, c.attributes()); err != nil {
		return err
	}
	return c.resolve()
}

// handle answers with all but errors.
func (s *Server) handle(c *call) error {
	run := s.route(c)
	places := s.places(c)
	if c.streams() {
		setWriteDeadline(c.w, time.Time{})
	}
	if places == s.sessions {
		setReadDeadline(c.w, time.Time{})
	}
	leave, err := places.Enter(c.user)
	if err != nil {
		return err
	}
	defer leave()
	return run(c)
}

// places is what the call takes a share of.
func (s *Server) places(c *call) *shares.Shares {
	switch {
	case c.connects(), c.proxies():
		return s.sessions
	case c.verb == "watch":
		return s.watches
	case c.subresource == "log":
		return s.logs
	}
	return s.inFlight
}

// synced waits a moment for the first complete state: until then an empty list would say that nothing exists.
func (s *Server) synced(ctx context.Context) error {
	select {
	case <-s.view.Synced():
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	select {
	case <-s.view.Synced():
		return nil
	case <-ctx.Done():
		err := apierrors.NewServiceUnavailable("the state is not read from the store yet")
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
		return err
	}
}

// route picks the handler. The resource table has said already that the verb exists.
func (s *Server) route(c *call) func(*call) error {
	if slices.Contains(measured, c.resource) {
		return s.metrics
	}
	if c.resource.New == nil {
		return s.review
	}
	switch c.subresource {
	case "", resource.Status, resource.Ephemeral, "finalize":
		return s.plain(c.verb)
	case resource.Scale:
		return s.scale(c.verb)
	case "binding":
		return s.bind
	case "eviction":
		return s.evict
	case "token":
		return s.requestToken
	case "log":
		return s.podLog
	case "exec":
		return s.podExec
	case "attach":
		return s.podAttach
	case "portforward":
		return s.podPortForward
	case proxied:
		if c.plural == "nodes" {
			return s.nodePage
		}
		if c.plural == "services" {
			return s.serviceProxy
		}
		return s.podProxy
	}
	return s.notImplemented
}

func (s *Server) plain(verb string) func(*call) error {
	switch verb {
	case "get":
		return s.get
	case "list":
		return s.list
	case "watch":
		return s.watch
	case "create":
		return s.create
	case "update":
		return s.update
	case "patch":
		return s.patch
	case "delete":
		return s.delete
	case "deletecollection":
		return s.deleteCollection
	}
	return s.notImplemented
}

func (s *Server) scale(verb string) func(*call) error {
	switch verb {
	case "get":
		return s.getScale
	case "update":
		return s.updateScale
	}
	return s.patch
}
