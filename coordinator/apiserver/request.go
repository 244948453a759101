package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
)

// target is what a URL points at.
type target struct {
	group, version string
	plural         string
	namespace      string
	name           string
	subresource    string
}

// parseTarget reads the path of a resource request; ok is false for any other path.
func parseTarget(path string) (t target, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		t.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		t.group, t.version, parts = parts[1], parts[2], parts[3:]
	default:
		return target{}, false
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		t.namespace = parts[1]
		if of, isSub := namespaceTarget(t, parts); isSub {
			return of, true
		}
		parts = parts[2:]
	}
	return t.fill(parts)
}

// namespaceTarget tells /namespaces/x[/status] of the core group from /namespaces/x/pods.
func namespaceTarget(t target, parts []string) (target, bool) {
	own := len(parts) == 2 || len(parts) == 3 && (parts[2] == "status" || parts[2] == "finalize")
	if t.group != "" || !own {
		return target{}, false
	}
	t.plural, t.name = "namespaces", parts[1]
	if len(parts) == 3 {
		t.subresource = parts[2]
	}
	return t, true
}

func (t target) fill(parts []string) (target, bool) {
	if len(parts) > 3 && parts[2] == proxied {
		parts = parts[:3] // what follows is for the program in the pod
	}
	if len(parts) == 0 || len(parts) > 3 {
		return target{}, false
	}
	fields := []*string{&t.plural, &t.name, &t.subresource}
	for i, p := range parts {
		if p == "" {
			return target{}, false
		}
		*fields[i] = p
	}
	return t, true
}

// call is one request for a resource on its way through the server.
type call struct {
	target
	verb     string
	resource *resource.Resource
	user     authn.User
	query    url.Values
	w        http.ResponseWriter
	r        *http.Request

	code    int    // of the answer; 0 until there is one
	audited bool   // the audit log has its line already
	keeps   bool   // whether the audit log may show the body
	sent    []byte // the body, once it is read, if it keeps it
	bodies  *budget
	// bodyLimit is how long the client may take to send it.
	bodyLimit time.Duration
	weight    int64 // what the body takes of bodies
}

func (c *call) sub() *resource.Subresource { return c.resource.Subresource(c.subresource) }

// notFound says that the object of the call is not there.
func (c *call) notFound() error {
	return apierrors.NewNotFound(c.resource.GroupResource(), c.name)
}

// verbOf names what the method asks for, as authorization and audit call it.
func verbOf(r *http.Request, t target) string {
	if t.connects() {
		return "create"
	}
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	case http.MethodGet, http.MethodHead:
		return readVerb(r, t)
	case http.MethodOptions:
		if t.proxies() {
			return "get" // it asks, and changes nothing
		}
	}
	return strings.ToLower(r.Method)
}

func readVerb(r *http.Request, t target) string {
	if watching(r.URL.Query()) && t.subresource == "" {
		return "watch"
	}
	if t.name == "" {
		return "list"
	}
	return "get"
}

// watching reads the watch parameter as upstream does: present and not false.
func watching(q url.Values) bool {
	if !q.Has("watch") {
		return false
	}
	on, err := strconv.ParseBool(q.Get("watch"))
	return on || (err != nil && q.Get("watch") == "")
}

// resolve finds the served kind and checks that it has the verb.
func (c *call) resolve() error {
	c.resource = lookup(c.target)
	if c.resource == nil {
		return errNoRoute(c.r)
	}
	if !c.scoped() && c.resource.Namespaced && c.name == "" {
		return errNoMethod() // its list is for all namespaces, and can be read only
	}
	if !c.scoped() {
		return errNoRoute(c.r)
	}
	named := c.verb == "update" || c.verb == "patch"
	if named && c.name == "" || c.verb == "create" && c.name != "" && c.subresource == "" {
		return errNoMethod()
	}
	verbs := c.resource.Verbs
	if c.subresource != "" {
		sub := c.sub()
		if sub == nil {
			return errNoRoute(c.r)
		}
		verbs = sub.Verbs
	}
	if !slices.Contains(verbs, c.verb) {
		return errNoMethod()
	}
	return nil
}

func lookup(t target) *resource.Resource {
	if r := resource.Lookup(t.group, t.version, t.plural); r != nil {
		return r
	}
	for _, r := range slices.Concat(reviews, measured) {
		if r.GVR() == (schema.GroupVersionResource{Group: t.group, Version: t.version, Resource: t.plural}) {
			return r
		}
	}
	return nil
}

// scoped checks that a namespace is given where one is needed, and only there.
func (c *call) scoped() bool {
	if !c.resource.Namespaced {
		return c.namespace == "" || c.resource.Plural == "namespaces" && c.namespace == c.name
	}
	return c.namespace != "" || c.name == "" && c.verb != "create" && c.verb != "deletecollection"
}

// space is the namespace of the object in the store: a Namespace is in none, though its request counts as in itself.
func (c *call) space() string {
	if c.resource.Namespaced {
		return c.namespace
	}
	return ""
}

// errNoRoute is the answer for a path that is not served.
func errNoRoute(*http.Request) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
	}}
}

// errNoMethod is the answer for a path that is served to other methods.
func errNoMethod() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource", Details: &metav1.StatusDetails{},
	}}
}

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}
