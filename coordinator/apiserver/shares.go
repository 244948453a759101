package apiserver

import (
	"context"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// shares bounds what is under way at once, and how much of that one user may have: half, so that nobody, by malice or by a
// bug, takes what all others need. Administrators may have all of it: who repairs the cluster must not wait for it.
type shares struct {
	what string // for people: requests, watches
	all  int

	mu    sync.Mutex
	taken int
	by    map[string]int // users without any have no entry
	empty chan struct{}  // closed when the last place is given back; nil while nobody waits for that
}

func newShares(what string, all int) *shares {
	return &shares{what: what, all: all, by: map[string]int{}}
}

// enter takes a place, which leave must give back; or it says what is full, in a 429 that clients wait on.
func (s *shares) enter(u authn.User) (leave func(), err error) {
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

func (s *shares) leave(user string) {
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

// drain waits until no place is taken; ctx bounds the wait.
func (s *shares) drain(ctx context.Context) {
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

// count is how many places are taken.
func (s *shares) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
