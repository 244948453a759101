package apiserver

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// review answers a question about users. Nothing is stored.
func (s *Server) review(c *call) error {
	out, err := s.answer(c)
	if err != nil {
		return err
	}
	f, err := negotiate(c.r, offer{protobuf: true})
	if err != nil {
		return err
	}
	body, err := f.marshal(out)
	if err != nil {
		return err
	}
	c.respond(http.StatusCreated, f.contentType(), body)
	return nil
}

func (s *Server) answer(c *call) (runtime.Object, error) {
	switch c.resource.GVK.Kind {
	case "SelfSubjectReview":
		in := &authenticationv1.SelfSubjectReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		return &authenticationv1.SelfSubjectReview{
			TypeMeta: in.TypeMeta, ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(s.now())},
			Status: authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(c.user)},
		}, nil
	case "TokenReview":
		in := &authenticationv1.TokenReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		if in.Spec.Token == "" {
			return nil, badRequest("token is required for TokenReview in authentication")
		}
		in.Status = s.reviewToken(in.Spec)
		return in, nil
	case "SelfSubjectRulesReview":
		in := &authorizationv1.SelfSubjectRulesReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		if in.Spec.Namespace == "" {
			return nil, badRequest("no namespace on request")
		}
		in.Status = s.rules(c.user, in.Spec.Namespace)
		return in, nil
	}
	return s.answerAccess(c)
}

// answerAccess answers whether somebody may do something.
func (s *Server) answerAccess(c *call) (runtime.Object, error) {
	switch c.resource.GVK.Kind {
	case "SelfSubjectAccessReview":
		in := &authorizationv1.SelfSubjectAccessReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		if err := checkSelfReview(in); err != nil {
			return nil, err
		}
		in.Status = s.judge(c.user, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
		return in, nil
	case "LocalSubjectAccessReview":
		in := &authorizationv1.LocalSubjectAccessReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		if _, err := c.place(in); err != nil {
			return nil, err
		}
		if err := checkLocalReview(in); err != nil {
			return nil, err
		}
		in.Status = s.judge(subject(in.Spec), in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
		return in, nil
	default:
		in := &authorizationv1.SubjectAccessReview{}
		if err := c.decodeInto(in, c.resource.GVK); err != nil {
			return nil, err
		}
		if err := checkAccessReview(in); err != nil {
			return nil, err
		}
		in.Status = s.judge(subject(in.Spec), in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
		return in, nil
	}
}

func subject(spec authorizationv1.SubjectAccessReviewSpec) authn.User {
	return authn.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
}

func userInfo(u authn.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// judge takes attributes of which exactly one is there.
func (s *Server) judge(u authn.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := access.Attributes{User: u}
	if res != nil {
		a.Verb, a.Group, a.Resource, a.Subresource = res.Verb, res.Group, res.Resource, res.Subresource
		a.Namespace, a.Name = res.Namespace, res.Name
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	d := s.access.Authorize(a)
	return authorizationv1.SubjectAccessReviewStatus{Allowed: d.Allowed, Reason: d.Reason()}
}

// rules lists what a user may do in a namespace.
func (s *Server) rules(u authn.User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	rules, err := s.access.RulesFor(u, namespace)
	out := authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	if err != nil {
		out.Incomplete, out.EvaluationError = true, err.Error()
	}
	for _, r := range rules {
		if len(r.Resources) > 0 {
			out.ResourceRules = append(out.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			out.NonResourceRules = append(out.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return out
}
