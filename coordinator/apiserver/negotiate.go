package apiserver

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Media types of bodies.
const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

// Shapes that a client may ask an object to be turned into.
const (
	asObject       = ""
	asTable        = "Table"
	asMetadata     = "PartialObjectMetadata"
	asMetadataList = "PartialObjectMetadataList"
)

// form is what a client accepts: a media type and a shape.
type form struct {
	media  string
	as     string
	pretty bool
}

// offer is what the server can do for a request.
type offer struct {
	protobuf bool     // the kind has a protobuf form
	shapes   []string // besides asObject
}

var (
	offerOne   = []string{asTable, asMetadata}
	offerMany  = []string{asTable, asMetadataList}
	offerWatch = []string{asTable, asMetadata}
)

// negotiate takes the client's first wish that the server can fulfil. An empty Accept header is JSON.
func negotiate(r *http.Request, o offer) (form, error) {
	for _, w := range wishes(r.Header.Values("Accept")) {
		if f, ok := o.fulfil(w); ok {
			f.pretty = f.media == typeJSON && pretty(r, w)
			return f, nil
		}
	}
	return form{}, notAcceptable(o)
}

func (o offer) fulfil(w wish) (form, bool) {
	media, ok := o.media(w.media)
	if !ok {
		return form{}, false
	}
	as := w.params["as"]
	if as == asObject {
		return form{media: media}, true
	}
	meta := w.params["g"] == "meta.k8s.io" && w.params["v"] == "v1"
	if !meta || !slices.Contains(o.shapes, as) || (as == asTable && media == typeProtobuf) {
		return form{}, false
	}
	return form{media: media, as: as}, true
}

func (o offer) media(name string) (string, bool) {
	switch name {
	case typeJSON, "application/*", "*/*":
		return typeJSON, true
	case typeYAML, "application/x-yaml", "text/yaml":
		return typeYAML, true
	case typeProtobuf:
		return typeProtobuf, o.protobuf
	}
	return "", false
}

// wish is one element of an Accept header.
type wish struct {
	media  string
	params map[string]string
	q      float64
}

// wishes parses Accept headers, best first. Elements that do not parse are skipped, as HTTP allows.
func wishes(headers []string) []wish {
	if len(headers) == 1 && (headers[0] == typeJSON || headers[0] == typeProtobuf) { // what programs send
		return []wish{{media: headers[0], q: 1}}
	}
	var list []wish
	for element := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		media, params, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		if q > 0 {
			list = append(list, wish{media: media, params: params, q: q})
		}
	}
	if len(list) == 0 && strings.TrimSpace(strings.Join(headers, "")) == "" {
		return []wish{{media: typeJSON, q: 1}}
	}
	slices.SortStableFunc(list, func(a, b wish) int { return cmp.Compare(b.q, a.q) })
	return list
}

// pretty follows the pretty parameter; without one, people's tools get indented JSON.
func pretty(r *http.Request, w wish) bool {
	for _, v := range []string{r.URL.Query().Get("pretty"), w.params["pretty"]} {
		if v != "" {
			on, err := strconv.ParseBool(v)
			return err == nil && on
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

func notAcceptable(o offer) error {
	accepted := []string{typeJSON, typeYAML}
	if o.protobuf {
		accepted = append(accepted, typeProtobuf)
	}
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(accepted, ", "))
}

func unsupportedMediaType(accepted ...string) error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(accepted, ", "))
}

func statusError(code int, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, //nolint:gosec // an HTTP status
	}}
}
