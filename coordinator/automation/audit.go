package automation

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/audit"
	"skerry.dev/skerry/messaging"
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
	subject    string
	received   time.Time
	from       messaging.Caller
	attributes access.Attributes
	decision   *access.Decision // nil when nobody came to decide
	object     []byte           // what was to be applied
}

// leave makes the line of a request that was answered with a status.
func (e *Endpoints) leave(t trail, version string, status metav1.Status) {
	level := audit.LevelOfAnswer(e.Audit.Level(), t.attributes, status.Code)
	if level == auditv1.LevelNone {
		return
	}
	event := audit.NewEvent(level, t.attributes, status, metav1.NewMicroTime(t.received), metav1.NewMicroTime(time.Now()))
	event.RequestURI, event.UserAgent, event.SourceIPs = "nats:"+t.subject, audit.Bounded(userAgent(t.from)), nil
	if t.from.Address != "" {
		event.SourceIPs = []string{audit.Bounded(t.from.Address)}
	}
	event.ObjectRef.APIVersion = version
	if t.decision != nil {
		audit.Decide(event, *t.decision)
	}
	if level == auditv1.LevelRequest {
		audit.Sent(event, t.object, nil)
	}
	e.Audit.Record(event)
}

// userAgent is what the client says of itself, after the word that tells these lines from those of HTTP.
func userAgent(c messaging.Caller) string {
	agent := "NATS"
	if c.Client != "" {
		agent += " " + c.Client + "/" + c.Version
	}
	if c.Name != "" {
		agent += " (" + c.Name + ")"
	}
	return strings.ToValidUTF8(agent, "?")
}
