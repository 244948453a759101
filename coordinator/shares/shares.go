// Package shares divides what a server can do at once among its users. The Kubernetes API over HTTP and the one over NATS
// each have their own.
//
// Who may do what at all is decided elsewhere: coordinator/access.
package shares

import (
	"context"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Shares bounds what is under way at once, and how much of that one user may have: half, so that nobody, by malice or by a
// bug, takes what all others need. Administrators may have all of it: who repairs the cluster must not wait for it. All
// methods may be called concurrently. Use New.
type Shares struct {
	what string
	all  int

	mu    sync.Mutex
	taken int
	by    map[string]int // users without any have no entry
	empty chan struct{}  // closed when the last place is given back; nil while nobody waits for that
}

// New has so many places; what says of what, for people: requests, watches.
func New(what string, all int) *Shares {
	return &Shares{what: what, all: all, by: map[string]int{}}
}

// Enter takes a place, which leave must give back once; or it says what is full, in a 429 that clients wait on.
func (s *Shares) Enter(u authn.User) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	each := (s.all + 1) / 2
	if slices.Contains(u.Groups, authn.GroupMasters) {
		each = s.all
	}
	switch {
	case s.taken >= s.all:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("The server is busy with other %s, try again later", s.what), 1)
	case s.by[u.Name] >= each:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("The server is busy with other %s of user %q, try again later", s.what, u.Name), 1)
	}
	s.taken++
	s.by[u.Name]++
	return func() { s.leave(u.Name) }, nil
}

func (s *Shares) leave(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[user]--; s.by[user] == 0 {
		delete(s.by, user)
	}
	if s.taken == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Drain waits until no place is taken; ctx bounds the wait.
func (s *Shares) Drain(ctx context.Context) {
	s.mu.Lock()
	if s.taken == 0 {
		s.mu.Unlock()
		return
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// Count is how many places are taken.
func (s *Shares) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
