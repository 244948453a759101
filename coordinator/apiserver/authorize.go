package apiserver

import (
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Attributes are what a user wants to do. Path is set instead of the resource fields for requests that are for no
// resource.
type Attributes struct {
	User        authn.User
	Verb        string
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string
}

// Authorizer decides whether a user may do something. The reason is for people and may be empty.
type Authorizer interface {
	Authorize(a Attributes) (allowed bool, reason string)
}

// mastersOnly lets the group system:masters do everything, and everybody who is known ask what they may do.
type mastersOnly struct{}

// Authorize implements Authorizer.
func (mastersOnly) Authorize(a Attributes) (bool, string) {
	if a.User.In(authn.GroupMasters) {
		return true, ""
	}
	if a.User.In(authn.GroupAuthenticated) && a.selfReview() {
		return true, ""
	}
	return a.User.In(authn.GroupAuthenticated) && a.Verb == "get" && isDiscoveryPath(a.Path), ""
}

func (a Attributes) selfReview() bool {
	return a.Verb == "create" && a.Group != "" && strings.HasPrefix(a.Resource, "selfsubject")
}

// isDiscoveryPath names the paths that only tell what is served: upstream's role system:discovery.
func isDiscoveryPath(path string) bool {
	switch path {
	case "/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz":
		return true
	}
	return strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/") || strings.HasPrefix(path, "/openapi/") || strings.HasPrefix(path, "/version/")
}

func (s *Server) authorize(a Attributes) error {
	allowed, reason := s.authorizer.Authorize(a)
	if allowed {
		return nil
	}
	message := a.denied()
	if reason != "" {
		message += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(message))
}

var sanitizer = strings.NewReplacer(`&`, "&amp;", `<`, "&lt;", `>`, "&gt;")

// denied is upstream's wording.
func (a Attributes) denied() string {
	if a.Path != "" {
		return sanitizer.Replace(fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path))
	}
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	return sanitizer.Replace(fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", a.User.Name, a.Verb, what, a.Group, where))
}
