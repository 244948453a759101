package automation

import (
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging"
)

// Callers knows who has logged in to NATS.
type Callers interface {
	// Caller is the user of a login, by the ID that its requests carry; ok is false for an ID that is unknown and for a login
	// that does not hold any more.
	Caller(id string) (user authn.User, ok bool)
}

// Access decides what users may do: an *rbac.Authorizer.
type Access interface {
	access.Authorizer
	// Admit refuses writes that would give more than the user has. Old is nil for a new object.
	Admit(u authn.User, obj, old runtime.Object) error
}

// identify finds who sent a request. Who is not known learns no more than that.
func (e *Endpoints) identify(h nats.Header) (messaging.Caller, authn.User, error) {
	from, err := messaging.CallerOf(h)
	if err != nil {
		e.Log.Warn("automation request of nobody", "err", err)
		return from, authn.User{}, apierrors.NewUnauthorized("Unauthorized")
	}
	user, ok := e.Callers.Caller(from.ID)
	if !ok {
		return from, user, apierrors.NewUnauthorized("Unauthorized")
	}
	for name := range h {
		if strings.HasPrefix(strings.ToLower(name), "impersonate-") { // to ignore it would be to do more than was asked
			return from, user, apierrors.NewBadRequest("impersonation is not offered over NATS: ask the Kubernetes API")
		}
	}
	return from, user, nil
}

// attributes are what is judged of a request.
func (r *request) attributes(user authn.User, res *resource.Resource, v verb) access.Attributes {
	a := access.Attributes{User: user, Verb: v.right, Group: res.GVK.Group, Resource: res.Plural, Namespace: r.space(res), Name: r.Name}
	if v.name == "list" {
		a.Name, a.Namespace = "", r.listed(res)
	}
	if res.Plural == "namespaces" && res.GVK.Group == "" {
		a.Namespace = a.Name // as for the path /api/v1/namespaces/NAME
	}
	return a
}

// admit refuses a write by what it would store. Who applies what does not exist needs the right to create, too.
func (e *Endpoints) admit(a access.Attributes, res *resource.Resource) func(obj, old runtime.Object) error {
	return func(obj, old runtime.Object) error {
		m, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		if m.GetName() != a.Name || res.Namespaced && m.GetNamespace() != a.Namespace || resource.ForObject(obj) != res {
			return apierrors.NewBadRequest("the object is not the one that the request names")
		}
		if old == nil {
			create := a
			create.Verb = "create"
			if err := access.Check(e.Access, create); err != nil {
				return err
			}
		}
		return e.Access.Admit(a.User, obj, old)
	}
}

// writing are the options of a write that a allows.
func (e *Endpoints) writing(a access.Attributes, res *resource.Resource) objects.WriteOptions {
	return objects.WriteOptions{FieldManager: "skerry-automation", Admit: e.admit(a, res)}
}
