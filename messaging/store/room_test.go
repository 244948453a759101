package store_test

import (
	"errors"
	"testing"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// TestRoom: on a disk that fills up first nothing new is stored, then nothing is changed, while deleting and reading work
// to the last. When there is room, all of it works again.
func TestRoom(t *testing.T) {
	n := natstest.Server(t)
	free, small := uint64(1<<30), errors.New("small disk")
	s := ok[*store.Store](t)(store.Open(t.Context(), n.JetStream(), store.Options{Storage: n.Storage, Room: func(bytes uint64) error {
		if free < bytes {
			return small
		}
		return nil
	}}))
	revision := ok[uint64](t)(s.Create(t.Context(), pod, []byte("1")))
	other := store.Key{Kind: "pods", Namespace: "default", Name: "other"}

	free = 10 << 20
	_, err := s.Create(t.Context(), other, []byte("1"))
	wantErr(t, "create with 10 MiB left", err, store.ErrFull)
	wantErr(t, "create with 10 MiB left", err, small)
	revision = ok[uint64](t)(s.Update(t.Context(), pod, []byte("2"), revision))

	free = 5 << 20
	_, err = s.Update(t.Context(), pod, []byte("3"), revision)
	wantErr(t, "update with 5 MiB left", err, store.ErrFull)
	if got := ok[store.Entry](t)(s.Get(t.Context(), pod)); string(got.Value) != "2" {
		t.Errorf("object is %q", got.Value)
	}
	ok[uint64](t)(s.Delete(t.Context(), pod, revision))

	free = 1 << 30
	ok[uint64](t)(s.Create(t.Context(), other, []byte("1")))
}
