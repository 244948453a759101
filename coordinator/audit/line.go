package audit

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// line is the event as json.Marshal writes it. There is one for each request, and by reflection it costs an eighth of a
// GET; so what events have most of the time is written here, and what has more is left to the library.
func line(e *auditv1.Event) ([]byte, error) {
	if !common(e) {
		return json.Marshal(e)
	}
	b := object(make([]byte, 0, 1024))
	b.text("kind", e.Kind, true)
	b.text("apiVersion", e.APIVersion, true)
	b.text("level", string(e.Level), false)
	b.text("auditID", string(e.AuditID), false)
	b.text("stage", string(e.Stage), false)
	b.text("requestURI", e.RequestURI, false)
	b.text("verb", e.Verb, false)
	b.open("user")
	b.text("username", e.User.Username, true)
	b.text("uid", e.User.UID, true)
	b.texts("groups", e.User.Groups)
	b.close()
	b.texts("sourceIPs", e.SourceIPs)
	b.text("userAgent", e.UserAgent, true)
	b.reference(e.ObjectRef)
	b.status(e.ResponseStatus)
	b.time("requestReceivedTimestamp", e.RequestReceivedTimestamp)
	b.time("stageTimestamp", e.StageTimestamp)
	b.annotations(e.Annotations)
	b.close()
	return b, nil
}

// common reports whether line knows all that the event has.
func common(e *auditv1.Event) bool {
	s := e.ResponseStatus
	return e.ImpersonatedUser == nil && e.AuthenticationMetadata == nil && e.RequestObject == nil && e.ResponseObject == nil &&
		len(e.User.Extra) == 0 && !e.RequestReceivedTimestamp.IsZero() && !e.StageTimestamp.IsZero() &&
		(s == nil || s.TypeMeta == metav1.TypeMeta{} && s.ListMeta == metav1.ListMeta{} && s.Details == nil)
}

// object is a JSON object that is being written; objects in it are opened and closed.
type object []byte

func (b *object) key(name string) {
	if n := len(*b); n == 0 {
		*b = append(*b, '{')
	} else if (*b)[n-1] != '{' {
		*b = append(*b, ',')
	}
	*b = append(append(append(*b, '"'), name...), '"', ':')
}

func (b *object) open(name string) {
	b.key(name)
	*b = append(*b, '{')
}

func (b *object) close() { *b = append(*b, '}') }

// text writes a member; an empty one may be left out.
func (b *object) text(name, value string, omit bool) {
	if value == "" && omit {
		return
	}
	b.key(name)
	b.quote(value)
}

func (b *object) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	b.key(name)
	*b = append(*b, '[')
	for i, v := range values {
		if i > 0 {
			*b = append(*b, ',')
		}
		b.quote(v)
	}
	*b = append(*b, ']')
}

// quote leaves whatever needs care to the library.
func (b *object) quote(value string) {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(value) // a string can always be encoded
			*b = append(*b, quoted...)
			return
		}
	}
	*b = append(append(append(*b, '"'), value...), '"')
}

func (b *object) time(name string, at metav1.MicroTime) {
	b.key(name)
	*b = append(at.UTC().AppendFormat(append(*b, '"'), metav1.RFC3339Micro), '"')
}

func (b *object) reference(r *auditv1.ObjectReference) {
	if r == nil {
		return
	}
	b.open("objectRef")
	b.text("resource", r.Resource, true)
	b.text("namespace", r.Namespace, true)
	b.text("name", r.Name, true)
	b.text("uid", string(r.UID), true)
	b.text("apiGroup", r.APIGroup, true)
	b.text("apiVersion", r.APIVersion, true)
	b.text("resourceVersion", r.ResourceVersion, true)
	b.text("subresource", r.Subresource, true)
	b.close()
}

func (b *object) status(s *metav1.Status) {
	if s == nil {
		return
	}
	b.open("responseStatus")
	b.open("metadata")
	b.close()
	b.text("status", s.Status, true)
	b.text("message", s.Message, true)
	b.text("reason", string(s.Reason), true)
	if s.Code != 0 {
		b.key("code")
		*b = strconv.AppendInt(*b, int64(s.Code), 10)
	}
	b.close()
}

func (b *object) annotations(notes map[string]string) {
	if len(notes) == 0 {
		return
	}
	b.key("annotations")
	*b = append(*b, '{')
	for i, name := range slices.Sorted(maps.Keys(notes)) {
		if i > 0 {
			*b = append(*b, ',')
		}
		b.quote(name)
		*b = append(*b, ':')
		b.quote(notes[name])
	}
	*b = append(*b, '}')
}
