package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// impersonate returns the user that the request asks to act as (kubectl --as), if its own user may, or its own user when
// it asks for nobody. The headers are taken away: nobody behind this reads them.
func (s *Server) impersonate(r *http.Request, user authn.User) (authn.User, error) {
	t := trailOf(r.Context())
	t.user = user
	if !impersonates(r.Header) {
		return user, nil
	}
	steps, as, err := impersonation(r.Header)
	if err != nil || len(steps) == 0 {
		return user, err
	}
	for _, a := range steps {
		a.User, a.Verb = user, "impersonate"
		if err := s.authorize(r.Context(), a); err != nil {
			return authn.User{}, err
		}
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			r.Header.Del(name)
		}
	}
	as.Cookie = user.Cookie
	t.as = &as
	return as, nil
}

func impersonates(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return true
		}
	}
	return false
}

// impersonation reads the headers: what must be allowed, and the user that comes of it.
func impersonation(h http.Header) (steps []access.Attributes, as authn.User, err error) {
	as.Name = h.Get(authenticationv1.ImpersonateUserHeader)
	groups := h[authenticationv1.ImpersonateGroupHeader]
	if namespace, name, ok := authn.SplitServiceAccountName(as.Name); ok {
		steps = append(steps, access.Attributes{Resource: "serviceaccounts", Namespace: namespace, Name: name})
		if len(groups) == 0 {
			as.Groups = authn.ServiceAccount(namespace, name, "").Groups
		}
	} else if as.Name != "" {
		steps = append(steps, access.Attributes{Resource: "users", Name: as.Name})
	}
	for _, group := range groups {
		steps = append(steps, access.Attributes{Resource: "groups", Name: group})
		as.Groups = append(as.Groups, group)
	}
	steps = append(steps, extraOf(h, &as)...)
	if as.UID = h.Get(authenticationv1.ImpersonateUIDHeader); as.UID != "" {
		steps = append(steps, access.Attributes{Group: authenticationv1.GroupName, Resource: "uids", Name: as.UID})
	}
	if as.Name == "" && len(steps) > 0 {
		return nil, as, badRequest("requested %s without impersonating a user", describeSteps(steps))
	}
	as.Groups = knownOrNot(as)
	return steps, as, nil
}

func extraOf(h http.Header, as *authn.User) (steps []access.Attributes) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		key, ok := strings.CutPrefix(name, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		if clear, err := url.PathUnescape(key); err == nil {
			key = clear
		}
		for _, value := range h[name] {
			steps = append(steps, access.Attributes{Group: authenticationv1.GroupName, Resource: "userextras", Subresource: key, Name: value})
			if as.Extra == nil {
				as.Extra = map[string][]string{}
			}
			as.Extra[key] = append(as.Extra[key], value)
		}
	}
	return steps
}

// knownOrNot are the user's groups with the one that says whether it is known, unless they say so themselves.
func knownOrNot(as authn.User) []string {
	add := authn.GroupAuthenticated
	if as.Name == authn.UserAnonymous {
		add = authn.GroupUnauthenticated
	}
	if as.In(authn.GroupUnauthenticated) || as.In(add) {
		return as.Groups
	}
	return append(as.Groups, add)
}

func describeSteps(steps []access.Attributes) string {
	var out []string
	for _, a := range steps {
		out = append(out, fmt.Sprintf("%s %q", a.Resource, a.Name))
	}
	return strings.Join(out, ", ")
}
