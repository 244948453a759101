package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/audit"
)

// Auditor keeps the record of who did what: an *audit.Log.
type Auditor interface {
	Level() auditv1.Level
	// Record must not block.
	Record(e *auditv1.Event)
}

// noAudit keeps nothing.
type noAudit struct{}

// Level is none.
func (noAudit) Level() auditv1.Level { return auditv1.LevelNone }

// Record does nothing.
func (noAudit) Record(*auditv1.Event) {}

// trail is what a request leaves on its way, for its line in the audit log.
type trail struct {
	id       types.UID
	received time.Time
	user     authn.User  // who has asked
	as       *authn.User // on whose behalf; nil for nobody's
	decision *access.Decision
}

type trailKey struct{}

// follow gives the request, by its context, a trail, and the answer its id.
func (s *Server) follow(ctx context.Context, w http.ResponseWriter) context.Context {
	if s.Audit.Level() == auditv1.LevelNone {
		return ctx
	}
	t := &trail{id: audit.NewID(), received: s.now()}
	w.Header().Set("Audit-Id", string(t.id))
	return context.WithValue(ctx, trailKey{}, t)
}

// trailOf is the request's trail; one that nobody reads when there is none.
func trailOf(ctx context.Context) *trail {
	if t, ok := ctx.Value(trailKey{}).(*trail); ok {
		return t
	}
	return &trail{}
}

// audit leaves the line of a call, which ended with err or, if it is nil, with c.code.
func (s *Server) audit(c *call, err error) {
	status := metav1.Status{Code: int32(c.code)}
	if err != nil {
		status, _ = statusOf(err)
	}
	s.record(c.r, c.attributes(), status, func(e *auditv1.Event) {
		e.ObjectRef.APIVersion = c.version
		if e.Level == auditv1.LevelRequest {
			c.addSent(e)
		}
	})
}

// auditRefusal leaves the line of a request that was refused before anybody knew what to do with it.
func (s *Server) auditRefusal(r *http.Request, err error) {
	status, _ := statusOf(err)
	a := access.Attributes{Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if t, ok := parseTarget(r.URL.Path); ok {
		a = (&call{target: t, verb: verbOf(r, t)}).attributes()
	}
	s.record(r, a, status, func(*auditv1.Event) {})
}

// auditPath leaves the line of a request for what is no resource.
func (s *Server) auditPath(r *http.Request, code int) {
	s.record(r, access.Attributes{Verb: strings.ToLower(r.Method), Path: r.URL.Path}, metav1.Status{Code: int32(code)}, func(*auditv1.Event) {})
}

// record makes the event, if there is to be one.
func (s *Server) record(r *http.Request, a access.Attributes, status metav1.Status, add func(*auditv1.Event)) {
	level := audit.LevelOfAnswer(s.Audit.Level(), a, status.Code)
	if level == auditv1.LevelNone {
		return
	}
	t := trailOf(r.Context())
	a.User = t.user
	e := audit.NewEvent(level, a, status, metav1.NewMicroTime(t.received), metav1.NewMicroTime(s.now()))
	e.AuditID, e.RequestURI, e.UserAgent, e.SourceIPs = t.id, r.URL.RequestURI(), audit.Bounded(r.UserAgent()), sources(r)
	if t.as != nil {
		as := audit.UserInfo(*t.as)
		e.ImpersonatedUser = &as
	}
	if t.decision != nil {
		audit.Decide(e, *t.decision)
	}
	add(e)
	s.Audit.Record(e)
}

// sources is where the connection comes from. What headers say of it anybody may write.
func sources(r *http.Request) []string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil
	}
	return []string{host}
}

// addSent adds the body of the call.
func (c *call) addSent(e *auditv1.Event) {
	if len(c.sent) > 0 {
		body, err := c.sentJSON()
		audit.Sent(e, body, err)
	}
}

func (c *call) sentJSON() ([]byte, error) {
	media, err := c.mediaType()
	if err != nil {
		return nil, err
	}
	if media == typeProtobuf {
		if c.resource == nil || c.resource.New == nil || c.subresource != "" {
			return nil, fmt.Errorf("%s is not shown", typeProtobuf)
		}
		obj := c.resource.New()
		if err := decodeProtobuf(c.sent, obj, c.resource.GVK); err != nil {
			return nil, err
		}
		return json.Marshal(obj)
	}
	return yaml.YAMLToJSON(c.sent) // JSON is YAML
}

// coded remembers the code of an answer that another package's handler gives.
type coded struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (w *coded) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *coded) Write(data []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController through.
func (w *coded) Unwrap() http.ResponseWriter { return w.ResponseWriter }
