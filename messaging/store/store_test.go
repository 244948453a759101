package store_test

import (
	"errors"
	"testing"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

func open(t testing.TB, n *natstest.Net) *store.Store {
	t.Helper()
	stage := func(string) error { return nil } // as if: a few writes that meet are a batch
	s, err := store.Open(t.Context(), n.JetStream(), store.Options{Storage: n.Storage, Stage: stage})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var pod = store.Key{Kind: "pods", Namespace: "default", Name: "web.1"}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

// ok returns a call's result, or fails the test.
func ok[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Each store is tested with and without a fence: the fence must change nothing for the only writer.
func both(t *testing.T, f func(t *testing.T, n *natstest.Net, s *store.Store)) {
	for name, fenced := range map[string]bool{"plain": false, "fenced": true} {
		t.Run(name, func(t *testing.T) {
			n := natstest.Server(t)
			s := open(t, n)
			if fenced {
				ok[uint64](t)(s.OpenEpoch(t.Context(), "test"))
			}
			f(t, n, s)
		})
	}
}

func TestCompareAndSet(t *testing.T) {
	both(t, func(t *testing.T, n *natstest.Net, s *store.Store) {
		ctx := t.Context()
		_, err := s.Get(ctx, pod)
		wantErr(t, "get of a missing object", err, store.ErrNotFound)
		_, err = s.Update(ctx, pod, []byte("x"), 7)
		wantErr(t, "update of a missing object", err, store.ErrConflict)

		first := ok[uint64](t)(s.Create(ctx, pod, []byte("one")))
		_, err = s.Create(ctx, pod, []byte("other"))
		wantErr(t, "second create", err, store.ErrExists)

		second := ok[uint64](t)(s.Update(ctx, pod, []byte("two"), first))
		_, err = s.Update(ctx, pod, []byte("stale"), first)
		wantErr(t, "stale update", err, store.ErrConflict)
		_, err = s.Delete(ctx, pod, first)
		wantErr(t, "stale delete", err, store.ErrConflict)

		e := ok[store.Entry](t)(s.Get(ctx, pod))
		if string(e.Value) != "two" || e.Revision != second || e.Key != pod || e.Deleted || e.Time.IsZero() {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestDeleteAndCreateAgain(t *testing.T) {
	both(t, func(t *testing.T, n *natstest.Net, s *store.Store) {
		ctx := t.Context()
		first := ok[uint64](t)(s.Create(ctx, pod, []byte("one")))
		gone := ok[uint64](t)(s.Delete(ctx, pod, first))
		if gone <= first {
			t.Fatalf("revision of the deletion %d, want more than %d", gone, first)
		}
		e, err := s.Get(ctx, pod)
		wantErr(t, "get after delete", err, store.ErrNotFound)
		if !e.Deleted || e.Revision != gone || e.Value != nil {
			t.Fatalf("deletion looks like %+v", e)
		}
		_, err = s.Update(ctx, pod, []byte("zombie"), first)
		wantErr(t, "update after delete", err, store.ErrConflict)
		_, err = s.Delete(ctx, pod, first)
		wantErr(t, "second delete", err, store.ErrConflict)
		again := ok[uint64](t)(s.Create(ctx, pod, []byte("again")))
		if again <= gone {
			t.Fatalf("created again at %d, deleted at %d", again, gone)
		}
		if e := ok[store.Entry](t)(s.Get(ctx, pod)); string(e.Value) != "again" {
			t.Fatalf("got %q", e.Value)
		}
	})
}

func TestFirst(t *testing.T) {
	s := open(t, natstest.Server(t))
	first := func() bool { return ok[store.Entry](t)(s.Get(t.Context(), pod)).First }
	revision := ok[uint64](t)(s.Create(t.Context(), pod, []byte("1")))
	if !first() {
		t.Error("a new object is not the first under its name")
	}
	revision = ok[uint64](t)(s.Update(t.Context(), pod, []byte("2"), revision))
	if first() {
		t.Error("an update is said to be the first")
	}
	ok[uint64](t)(s.Delete(t.Context(), pod, revision))
	ok[uint64](t)(s.Create(t.Context(), pod, []byte("3")))
	if first() {
		t.Error("an object that follows a deletion is said to be the first")
	}
}
