package assign_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/natstest"
)

func open(t *testing.T, n *natstest.Net) *assign.Store {
	t.Helper()
	s, err := assign.Open(t.Context(), n.JetStream(), assign.Options{Storage: n.Storage})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *assign.Store, node, part, data string) uint64 {
	t.Helper()
	seq, err := s.Put(t.Context(), node, part, []byte(data), "sig")
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// A node hears its own keys and the broadcast ones as they are written, and reads the same by direct get.
func TestNodeHearsAndReads(t *testing.T) {
	n := natstest.Server(t)
	s := open(t, n)
	for _, key := range []struct{ node, part string }{
		{"n1", messaging.ManifestPart}, {"n1", messaging.PodPart("a-b")}, {messaging.Broadcast, messaging.ServicesPart},
	} {
		nc := n.NodeConn("n1")
		sub, err := nc.SubscribeSync(messaging.AssignSubjects(key.node))
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		want := messaging.Assigned{Node: key.node, Part: key.part, Data: []byte("x"), Signature: "sig"}
		want.Revision = put(t, s, key.node, key.part, "x")
		msg, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		heard, err := messaging.ParseAssigned(msg)
		if err != nil {
			t.Fatal(err)
		}
		read, err := messaging.GetAssigned(t.Context(), nc, key.node, key.part)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, heard) + cmp.Diff(want, read); d != "" {
			t.Errorf("%v: %s", key, d)
		}
	}
}

func TestMissingPart(t *testing.T) {
	n := natstest.Server(t)
	s := open(t, n)
	nc := n.NodeConn("n1")
	if _, err := messaging.GetAssigned(t.Context(), nc, "n1", "manifest"); !errors.Is(err, messaging.ErrNotAssigned) {
		t.Fatalf("get of a part that was never written: %v", err)
	}
	put(t, s, "n1", "manifest", "x")
	if err := s.Delete(t.Context(), "n1", "manifest"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "n1", "manifest"); err != nil {
		t.Fatalf("second delete: %v", err)
	}
	if _, err := messaging.GetAssigned(t.Context(), nc, "n1", "manifest"); !errors.Is(err, messaging.ErrNotAssigned) {
		t.Fatalf("get of a deleted part: %v", err)
	}
}

func TestList(t *testing.T) {
	s := open(t, natstest.Server(t))
	list := func(node string) (out []string) {
		t.Helper()
		parts, err := s.List(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			out = append(out, fmt.Sprintf("%s %s %s %d", p.Node, p.Part, p.Data, p.Revision))
		}
		return out
	}
	if got := list(""); got != nil {
		t.Fatalf("empty stream lists %v", got)
	}
	put(t, s, "a.b", "manifest", "old")
	put(t, s, "a.b", "manifest", "new")
	put(t, s, "c", "pod.1", "p")
	put(t, s, messaging.Broadcast, "services", "s")
	if d := cmp.Diff([]string{"a.b manifest new 2", "c pod.1 p 3", "_all services s 4"}, list("")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"a.b manifest new 2"}, list("a.b")); d != "" {
		t.Error(d)
	}
	if err := s.DeleteNode(t.Context(), "a.b"); err != nil {
		t.Fatal(err)
	}
	if got := list("a.b"); got != nil {
		t.Errorf("deleted node lists %v", got)
	}
	for i := range 700 { // more than one fetch
		put(t, s, "big", fmt.Sprintf("pod.%d", i), "x")
	}
	if got := list("big"); len(got) != 700 {
		t.Errorf("lists %d of 700", len(got))
	}
}
