package objects

import (
	"context"
	"fmt"
	"hash/maphash"

	"skerry.dev/skerry/messaging/store"
)

// lockCount is how many objects can be written at once; a chance meeting of two keys costs one write's time.
const lockCount = 1024

// locks makes the writes of one object queue up, so that each reads the result of the one before.
type locks struct {
	seed  maphash.Seed
	slots [lockCount]chan struct{}
}

func newLocks() *locks {
	l := &locks{seed: maphash.MakeSeed()}
	for i := range l.slots {
		l.slots[i] = make(chan struct{}, 1) // one holder
	}
	return l
}

// take waits for the key's turn; call release once after it. Nobody may hold two.
func (l *locks) take(ctx context.Context, key store.Key) (release func(), err error) {
	slot := l.slots[maphash.Comparable(l.seed, key)%lockCount]
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for earlier writes of %s %s/%s: %w", key.Kind, key.Namespace, key.Name, ctx.Err())
	}
}
