package audit

import (
	"fmt"
	"strings"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Names of annotations, which are upstream's.
const (
	decisionAnnotation = "authorization.k8s.io/decision"
	reasonAnnotation   = "authorization.k8s.io/reason"
)

// maxText bounds what clients choose, in bytes, as upstream does.
const maxText = 1024

// NewEvent makes the event of a request that was answered. The caller adds what it knows beside.
func NewEvent(level auditv1.Level, a access.Attributes, status metav1.Status, received, answered metav1.MicroTime) *auditv1.Event {
	e := &auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    level, AuditID: NewID(), Stage: auditv1.StageResponseComplete, Verb: a.Verb, User: UserInfo(a.User),
		ResponseStatus: brief(status), RequestReceivedTimestamp: received, StageTimestamp: answered,
	}
	if a.Path == "" {
		e.ObjectRef = &auditv1.ObjectReference{
			Resource: a.Resource, Subresource: a.Subresource, Namespace: a.Namespace, Name: a.Name, APIGroup: a.Group,
		}
	}
	return e
}

// NewID is a new event's id.
func NewID() types.UID { return uuid.NewUUID() }

// brief leaves out what says nothing in a line of its own.
func brief(s metav1.Status) *metav1.Status {
	s.TypeMeta = metav1.TypeMeta{}
	return &s
}

// UserInfo is a user as events show it.
func UserInfo(u authn.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

// Decide notes what authorization said of the request.
func Decide(e *auditv1.Event, d access.Decision) {
	decision := "forbid"
	if d.Allowed {
		decision = "allow"
	}
	e.Annotations = map[string]string{decisionAnnotation: decision, reasonAnnotation: d.Reason()}
}

// Bounded cuts a text that a client chose.
func Bounded(text string) string {
	if len(text) <= maxText {
		return text
	}
	cut := text[:maxText]
	for !utf8.ValidString(cut) && len(cut) > maxText-utf8.UTFMax {
		cut = cut[:len(cut)-1]
	}
	return strings.ToValidUTF8(cut, "?") + "...TRUNCATED"
}

// maxSent bounds the bodies of requests in events, in bytes of JSON.
const maxSent = 64 << 10

// bodyAnnotation says why an event has no body.
const bodyAnnotation = "audit.skerry.dev/body"

// Sent adds the body of the request, in JSON, or says why it is left out: because it is too long, or by err. An empty body
// adds nothing.
func Sent(e *auditv1.Event, body []byte, err error) {
	if err == nil && len(body) > maxSent {
		err = fmt.Errorf("%d bytes are too many", len(body))
	}
	switch {
	case err != nil:
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[bodyAnnotation] = Bounded("left out: " + err.Error())
	case len(body) > 0:
		e.RequestObject = &runtime.Unknown{Raw: body, ContentType: runtime.ContentTypeJSON}
	}
}
