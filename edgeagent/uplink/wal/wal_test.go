package wal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLatestWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	l := open(t, path)
	must(t, l.Put(Record{Seq: 1, Key: "pod.a", Data: []byte("pending")}))
	must(t, l.Put(Record{Seq: 2, Key: "event", Data: []byte("one"), Keep: true}))
	must(t, l.Put(Record{Seq: 3, Key: "pod.a", Data: []byte("running")}))
	must(t, l.Put(Record{Seq: 4, Key: "event", Data: []byte("two"), Keep: true}))
	want := []Record{
		{Seq: 2, Key: "event", Data: []byte("one"), Keep: true},
		{Seq: 3, Key: "pod.a", Data: []byte("running")},
		{Seq: 4, Key: "event", Data: []byte("two"), Keep: true},
	}
	for _, log := range []*Log{l, open(t, path)} {
		if diff := cmp.Diff(want, log.Pending()); diff != "" {
			t.Error(diff)
		}
	}
	// The delivery of a replaced record does not count for its successor.
	must(t, l.Done(Record{Seq: 1, Key: "pod.a"}))
	must(t, l.Done(want[0]))
	if diff := cmp.Diff(want[1:], l.Pending()); diff != "" {
		t.Error(diff)
	}
}

func TestEmptiedWhenDelivered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	l := open(t, path)
	r := Record{Seq: 1, Key: "k", Data: make([]byte, 1000)}
	must(t, l.Put(r))
	must(t, l.Done(r))
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() != 0 {
		t.Errorf("file has %d bytes after everything was delivered", info.Size())
	}
	must(t, l.Put(Record{Seq: 2, Key: "k", Data: []byte("x")}))
	if got := open(t, path).Pending(); len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("pending %v, want the record of after the emptying", got)
	}
}

// TestMonthWithoutLink: a crash-looping pod and a stream of events cost a bounded file.
func TestMonthWithoutLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	l := open(t, path)
	for i := range uint64(20000) {
		must(t, l.Put(Record{Seq: 2*i + 1, Key: fmt.Sprintf("pod.%d", i%5), Data: make([]byte, 500)}))
		must(t, l.Put(Record{Seq: 2*i + 2, Key: "event", Data: make([]byte, 200), Keep: true}))
	}
	info, err := os.Stat(path)
	must(t, err)
	if limit := int64(slack + 3*(MaxStream*300+5*600)); info.Size() > limit {
		t.Errorf("file has %d bytes, want at most %d", info.Size(), limit)
	}
	if got := len(l.Pending()); got != MaxStream+5 {
		t.Errorf("%d records pending, want %d", got, MaxStream+5)
	}
	if diff := cmp.Diff(l.Pending(), open(t, path).Pending()); diff != "" {
		t.Errorf("reopened differs:\n%s", diff)
	}
}

// TestTornTail cuts the file at every length: what is whole before the cut is there, and the log goes on working.
func TestTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	l := open(t, path)
	var ends []int64
	var want []Record
	for i := range uint64(4) {
		r := Record{Seq: i + 1, Key: fmt.Sprint("k", i), Data: bytes.Repeat([]byte{byte(i)}, 10)}
		must(t, l.Put(r))
		want, ends = append(want, r), append(ends, l.size)
	}
	whole, err := os.ReadFile(path)
	must(t, err)
	for cut := range len(whole) {
		checkCut(t, whole[:cut], want, ends)
	}
}

func checkCut(t *testing.T, data []byte, want []Record, ends []int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wal")
	must(t, os.WriteFile(path, data, 0o600))
	l := open(t, path)
	n := 0
	for n < len(ends) && ends[n] <= int64(len(data)) {
		n++
	}
	if diff := cmp.Diff(want[:n], l.Pending(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("cut at %d:\n%s", len(data), diff)
	}
	must(t, l.Put(Record{Seq: 99, Key: "next"}))
	if got := open(t, path).Pending(); len(got) != n+1 {
		t.Errorf("cut at %d: %d records after one more, want %d", len(data), len(got), n+1)
	}
}

// TestRandomHistories compares the log, reopened at random, with a plain map. A delivered record may come back after a
// restart (consumers are idempotent), but never instead of a newer one, and nothing undelivered is missing.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "wal")
		l := open(t, path)
		model, delivered := map[string]Record{}, map[string]Record{}
		for seq := uint64(1); seq < 500; seq++ {
			r := Record{Seq: seq, Key: fmt.Sprint("k", rnd.IntN(8)), Data: make([]byte, rnd.IntN(2000))}
			switch rnd.IntN(4) {
			case 0:
				if old, ok := model[r.Key]; ok {
					must(t, l.Done(old))
					delivered[r.Key] = old
					delete(model, r.Key)
				}
			case 1:
				l = open(t, path)
			default:
				must(t, l.Put(r))
				model[r.Key] = r
			}
		}
		got := map[string]Record{}
		for _, r := range l.Pending() {
			if _, undelivered := model[r.Key]; !undelivered && delivered[r.Key].Seq == r.Seq {
				continue
			}
			got[r.Key] = r
		}
		if diff := cmp.Diff(model, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("seed %d:\n%s", seed, diff)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(encode(Record{Seq: 1, Key: "k", Data: []byte("d")}))
	f.Add([]byte{0, 0, 0, 11, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "wal")
		must(t, os.WriteFile(path, data, 0o600))
		l := open(t, path)
		before := l.Pending()
		if diff := cmp.Diff(before, open(t, path).Pending(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("opening twice differs:\n%s", diff)
		}
	})
}
