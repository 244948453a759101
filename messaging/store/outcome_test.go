package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// The link is cut at each of many moments around a write. Whatever the writer is told must be true: a revision means that
// it is stored there, a conflict that it is not, and only ErrUnknownOutcome may be either.
func TestWritesOverACutLinkNeverLie(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		writer, reader := openOver(t, n, "writer"), openOver(t, n, "reader")
		outcomes := map[string]int{}
		for i := range 40 {
			k := key("default", i)
			go func() {
				for range i { // some moment between sending and the answer
					time.Sleep(0)
				}
				n.Cut("writer")
				time.Sleep(time.Duration(i%4) * 5 * time.Second)
				n.Heal("writer")
			}()
			rev, err := writer.Create(t.Context(), k, []byte("mine"))
			e, getErr := reader.Get(t.Context(), k)
			switch {
			case err == nil && (getErr != nil || e.Revision != rev):
				t.Fatalf("create says revision %d, stored is %+v, %v", rev, e, getErr)
			case err == nil:
				outcomes["stored"]++
			case errors.Is(err, store.ErrUnknownOutcome):
				outcomes["unknown"]++
			case errors.Is(err, store.ErrUnavailable) && !errors.Is(getErr, store.ErrNotFound):
				t.Fatalf("create says %v, stored is %+v", err, e)
			case errors.Is(err, store.ErrUnavailable):
				outcomes["unavailable"]++
			default:
				t.Fatalf("create says %v", err)
			}
			time.Sleep(time.Minute)
		}
		t.Log(outcomes)
		if outcomes["stored"] == 0 {
			t.Error("no write came through")
		}
	})
}

// A write whose answer is lost is found again after the link has healed, although the writer had to ask twice.
func TestLostAnswerIsLookedUp(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		for _, fenced := range []bool{false, true} {
			writer := openOver(t, n, "writer")
			if fenced {
				ok[uint64](t)(writer.OpenEpoch(t.Context(), "test"))
			}
			k := key("default", map[bool]int{false: 1, true: 2}[fenced])
			n.DropAnswers("writer")
			go func() {
				time.Sleep(3 * time.Second)
				n.Heal("writer")
			}()
			rev, err := writer.Create(t.Context(), k, []byte("mine"))
			if err != nil {
				t.Fatalf("fenced %v: %v", fenced, err)
			}
			if e := ok[store.Entry](t)(writer.Get(t.Context(), k)); e.Revision != rev {
				t.Fatalf("fenced %v: create says %d, stored at %d", fenced, rev, e.Revision)
			}
		}
	})
}

// When the answer never comes, the writer must not claim anything.
func TestUnknownOutcome(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		writer, reader := openOver(t, n, "writer"), openOver(t, n, "reader")
		n.DropAnswers("writer")
		_, err := writer.Create(t.Context(), pod, []byte("mine"))
		wantErr(t, "create without an answer", err, store.ErrUnknownOutcome)
		ok[store.Entry](t)(reader.Get(t.Context(), pod)) // it was stored
		n.Heal("writer")
	})
}

func TestNothingToWriteTo(t *testing.T) {
	n := natstest.Server(t)
	js := n.JetStream()
	s := ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{}))
	if err := js.DeleteStream(t.Context(), "KV_state"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Create(ctx, pod, []byte("x"))
	wantErr(t, "create without a stream", err, store.ErrUnavailable)
	_, err = s.Get(t.Context(), pod)
	wantErr(t, "get without a stream", err, store.ErrUnavailable)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Create(canceled, pod, []byte("x"))
	wantErr(t, "create with an ended context", err, context.Canceled)
}

func TestTooLarge(t *testing.T) {
	s := open(t, natstest.Server(t))
	_, err := s.Create(t.Context(), pod, make([]byte, 9<<20))
	wantErr(t, "create of 9 MiB", err, store.ErrTooLarge)
}

func TestBadKeys(t *testing.T) {
	s := open(t, natstest.Server(t))
	for _, k := range []store.Key{{}, {Kind: "pods"}, {Name: "x"}} {
		if _, err := s.Create(t.Context(), k, nil); err == nil {
			t.Errorf("%+v created", k)
		}
		if _, err := s.Get(t.Context(), k); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("get %+v: %v", k, err)
		}
	}
	for _, k := range []store.Key{{Kind: "deployments.apps", Namespace: "a", Name: "b.c"}, {Kind: "nodes", Name: "*"}, {Kind: ">", Name: "_"}} {
		rev := ok[uint64](t)(s.Create(t.Context(), k, []byte(k.Name)))
		if e := ok[store.Entry](t)(s.Get(t.Context(), k)); e.Key != k || e.Revision != rev {
			t.Errorf("%+v comes back as %+v", k, e)
		}
	}
}

// A deletion fades without a trace: it stores nothing more, and the object can be created again.
func TestDeletionFades(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		s := openOver(t, n, "writer")
		ok[uint64](t)(s.OpenEpoch(t.Context(), "test"))
		m := newMirror()
		m.follow(t, s, store.WatchOptions{})
		rev := ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
		gone := ok[uint64](t)(s.Delete(t.Context(), pod, rev))
		time.Sleep(5 * time.Minute)
		e, err := s.Get(t.Context(), pod)
		wantErr(t, "get after it has faded", err, store.ErrNotFound)
		if e.Deleted {
			t.Errorf("the deletion can still be seen: %+v", e)
		}
		if now := ok[store.Cursor](t)(s.Cursor(t.Context())); now.Revision != gone {
			t.Errorf("stream is at %d, the deletion was %d", now.Revision, gone)
		}
		again := ok[uint64](t)(s.Create(t.Context(), pod, []byte("again")))
		m.until(t, "the object again", func() bool { return m.live[pod] == "again" && m.cursor.Revision == again })
	})
}

// The stream of an older version is brought up to date; one that is another thing is refused.
func TestOpenExistingStream(t *testing.T) {
	n := natstest.Server(t)
	js := n.JetStream()
	older := jetstream.StreamConfig{
		Name: "KV_state", Subjects: []string{"$KV.state.>"}, MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true,
		Discard: jetstream.DiscardNew, MaxConsumers: -1,
	}
	ok[jetstream.Stream](t)(js.CreateStream(t.Context(), older))
	s := ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{}))
	rev := ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
	ok[uint64](t)(s.Delete(t.Context(), pod, rev))

	if err := js.DeleteStream(t.Context(), "KV_state"); err != nil {
		t.Fatal(err)
	}
	older.Storage = jetstream.MemoryStorage
	ok[jetstream.Stream](t)(js.CreateStream(t.Context(), older))
	if _, err := store.Open(t.Context(), js, store.Options{}); err == nil {
		t.Fatal("a stream in memory is accepted for state")
	}
}

// What strangers write is not shown as objects, and does not stop a watch.
func TestStrangersMessages(t *testing.T) {
	n := natstest.Server(t)
	s := open(t, n)
	nc := n.Coordinator()
	for _, subject := range []string{"$KV.state.x", "$KV.state.a.b.c.d", "$KV.state.pods.default.=GG"} {
		ok[*nats.Msg](t)(nc.Request(subject, []byte("?"), 5*time.Second))
	}
	ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{})
	m.until(t, "the one object", func() bool { return len(m.live) == 1 && m.live[pod] == "x" })
	ok[*nats.Msg](t)(nc.Request("$KV.state.y", []byte("?"), 5*time.Second))
	ok[uint64](t)(s.Create(t.Context(), key("default", 1), []byte("x")))
	m.until(t, "two objects", func() bool { return len(m.live) == 2 })
}

func BenchmarkStore(b *testing.B) {
	for name, fenced := range map[string]bool{"plain": false, "fenced": true} {
		s := open(b, natstest.Durable(b))
		if fenced {
			ok[uint64](b)(s.OpenEpoch(b.Context(), "bench"))
		}
		value := make([]byte, 512)
		b.Run(name+"/create", func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				ok[uint64](b)(s.Create(b.Context(), key("create"+b.Name(), time.Now().Nanosecond()^i<<32), value))
			}
		})
		b.Run(name+"/update", func(b *testing.B) {
			k := key("update"+b.Name(), int(time.Now().UnixNano()))
			rev := ok[uint64](b)(s.Create(b.Context(), k, value))
			for b.Loop() {
				rev = ok[uint64](b)(s.Update(b.Context(), k, value, rev))
			}
		})
		b.Run(name+"/update-16", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				k := key("parallel", int(time.Now().UnixNano()))
				rev := ok[uint64](b)(s.Create(b.Context(), k, value))
				for pb.Next() {
					rev = ok[uint64](b)(s.Update(b.Context(), k, value, rev))
				}
			})
		})
		b.Run(name+"/get", func(b *testing.B) {
			k := key("get", int(time.Now().UnixNano()))
			ok[uint64](b)(s.Create(b.Context(), k, value))
			for b.Loop() {
				ok[store.Entry](b)(s.Get(b.Context(), k))
			}
		})
	}
}
