package apiserver

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/objects"
)

// Access decides what users may do: an *rbac.Authorizer.
type Access interface {
	access.Authorizer
	access.Rules
	// Admit refuses writes that would give more than the user has. Old is nil for a new object.
	Admit(u authn.User, obj, old runtime.Object) error
}

// attributes are what is judged of a call.
func (c *call) attributes() access.Attributes {
	return access.Attributes{
		User: c.user, Verb: c.verb, Group: c.group, Resource: c.plural, Subresource: c.subresource,
		Namespace: c.namespace, Name: c.name,
	}
}

// authorize asks whether the user may, and notes the answer for the audit log.
func (s *Server) authorize(ctx context.Context, a access.Attributes) error {
	d := s.access.Authorize(a)
	trailOf(ctx).decision = &d
	return a.Refusal(d)
}

// admit refuses a write by what it would store. An update that would create needs the right to create, too.
func (s *Server) admit(c *call) func(obj, old runtime.Object) error {
	return func(obj, old runtime.Object) error {
		if old == nil && c.verb != "create" {
			a := c.attributes()
			a.Verb = "create"
			if err := access.Check(s.access, a); err != nil {
				return err
			}
		}
		return s.access.Admit(c.user, obj, old)
	}
}

// writing are the options of a write.
func (s *Server) writing(c *call) (objects.WriteOptions, error) {
	o, err := c.writeOptions()
	o.Admit = s.admit(c)
	return o, err
}
