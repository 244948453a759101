// Package access says what a user may do: the question (Attributes), the one who answers it (Authorizer), and the words of
// a refusal, which are upstream's.
//
// The API server and the NATS endpoints ask the same question, so that neither is a way around the other. Who the user is
// comes from coordinator/apiserver/authn; the rules are evaluated in access/rbac. Nothing here does I/O.
package access

import (
	"errors"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
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

// Decision is the answer of an Authorizer.
type Decision struct {
	Allowed bool
	Why     fmt.Stringer // nil when there is nothing to say; made into words only when somebody asks
}

// Reason says why, for people; it may be empty.
func (d Decision) Reason() string {
	if d.Why == nil {
		return ""
	}
	return d.Why.String()
}

// Authorizer decides whether a user may do something. Implementations are safe for concurrent use.
type Authorizer interface {
	Authorize(a Attributes) Decision
}

// Rules lists what a user may do in a namespace, or in the whole cluster when it is empty. An error says what could not be
// found; the rules that were found hold nevertheless.
type Rules interface {
	RulesFor(u authn.User, namespace string) ([]rbacv1.PolicyRule, error)
}

// Check is nil when a allows, and else the Status error that upstream gives.
func Check(by Authorizer, a Attributes) error {
	return a.Refusal(by.Authorize(a))
}

// Refusal is what Check returns when d is the decision.
func (a Attributes) Refusal(d Decision) error {
	if d.Allowed {
		return nil
	}
	message := a.Denied()
	if reason := d.Reason(); reason != "" {
		message += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(message))
}

var sanitizer = strings.NewReplacer(`&`, "&amp;", `<`, "&lt;", `>`, "&gt;")

// Denied says, in upstream's words, that the user may not.
func (a Attributes) Denied() string {
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
