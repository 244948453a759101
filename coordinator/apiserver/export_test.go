package apiserver

import "skerry.dev/skerry/coordinator/apiserver/authn"

// OfOneUser is the most that one user may have of shares of a size.
func OfOneUser(all int) (enter func(user string, groups ...string) (leave func(), err error)) {
	s := newShares("things", all)
	return func(user string, groups ...string) (func(), error) { return s.enter(userOf(user, groups)) }
}

func userOf(name string, groups []string) authn.User { return authn.User{Name: name, Groups: groups} }
