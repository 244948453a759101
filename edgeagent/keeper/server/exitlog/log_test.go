package exitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/edgeagent/keeper"
)

func openAt(t *testing.T, dir string, maxBytes int64, known func(Record)) *Log {
	t.Helper()
	disk, err := OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(disk, maxBytes, known)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), disk.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func add(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(Record{Exit: keeper.Exit{ID: fmt.Sprint("c", i), Code: i}, Instance: fmt.Sprint(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(exits []keeper.Exit) (seqs []uint64) {
	for _, e := range exits {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func TestAfter(t *testing.T) {
	l := openAt(t, t.TempDir(), DefaultMaxBytes, nil)
	add(t, l, recentKept+10) // the older ones are read from the file
	for _, c := range []struct{ from, first, last uint64 }{
		{0, 1, recentKept + 10}, {5, 6, recentKept + 10}, {recentKept + 9, recentKept + 10, recentKept + 10},
	} {
		exits, err := l.After(t.Context(), c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := numbers(exits); got[0] != c.first || got[len(got)-1] != c.last || len(got) != int(c.last-c.first+1) {
			t.Errorf("after %d: got %v", c.from, got)
		}
	}
	if _, err := l.After(t.Context(), recentKept+11); !errors.Is(err, keeper.ErrTruncated) {
		t.Errorf("after a number never given out: got %v", err)
	}
}

func TestAfterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openAt(t, t.TempDir(), DefaultMaxBytes, nil)
		got := make(chan []keeper.Exit)
		go func() {
			exits, err := l.After(t.Context(), 0)
			if err != nil {
				t.Error(err)
			}
			got <- exits
		}()
		synctest.Wait()
		select {
		case exits := <-got:
			t.Fatalf("did not wait: %v", exits)
		default:
		}
		add(t, l, 1)
		if exits := <-got; len(exits) != 1 || exits[0].Seq != 1 {
			t.Errorf("got %v", exits)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.After(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
	})
}

func TestBoundedAndReopened(t *testing.T) {
	dir := t.TempDir()
	l := openAt(t, dir, smallLog, nil)
	add(t, l, 100)
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Size() > smallLog {
		t.Errorf("size: %v, %v", info, err)
	}
	if _, err := l.After(t.Context(), 1); !errors.Is(err, keeper.ErrTruncated) {
		t.Errorf("after a dropped number: got %v", err)
	}
	kept, err := l.After(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var again []keeper.Exit
	openAt(t, dir, smallLog, func(r Record) { again = append(again, r.Exit) })
	if diff := cmp.Diff(kept[len(kept)-1], again[len(again)-1]); diff != "" {
		t.Errorf("newest after reopening (-was +is):\n%s", diff)
	}
}

// TestRotKeepsTheRest: a record that went bad between good ones costs that record only.
func TestRotKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	add(t, openAt(t, dir, DefaultMaxBytes, nil), 3)
	path := filepath.Join(dir, fileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.IndexByte(data, '\n')+20] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []uint64
	l := openAt(t, dir, DefaultMaxBytes, func(r Record) { seen = append(seen, r.Seq) })
	if diff := cmp.Diff([]uint64{1, 3}, seen); diff != "" || l.Skipped() != 1 {
		t.Errorf("skipped %d (-want +got):\n%s", l.Skipped(), diff)
	}
}

func TestRecordTooLarge(t *testing.T) {
	l := openAt(t, t.TempDir(), DefaultMaxBytes, nil)
	big := Record{Exit: keeper.Exit{ID: "c", Labels: map[string]string{"k": string(make([]byte, MaxRecordBytes))}}}
	if err := l.Append(big, nil); err == nil {
		t.Error("accepted")
	}
	add(t, l, 1)
}

func FuzzScan(f *testing.F) {
	line, err := encode(Record{Exit: keeper.Exit{Seq: 1, ID: "c"}, Instance: "i"})
	if err != nil {
		f.Fatal(err)
	}
	next, err := encode(Record{Exit: keeper.Exit{Seq: 2, ID: "c", Labels: map[string]string{"a": "b"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(line, next...))
	f.Add(line[:len(line)-3])
	f.Add([]byte("\n\n00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var last uint64
		end, bad := scan(data, func(r Record, at int64) {
			if r.Seq <= last || at < 0 || at >= int64(len(data)) {
				t.Errorf("record %d at %d after %d", r.Seq, at, last)
			}
			last = r.Seq
		})
		if end < 0 || end > int64(len(data)) || bad < 0 || (end > 0) != (last > 0) {
			t.Errorf("end %d, bad %d, last %d of %d bytes", end, bad, last, len(data))
		}
		again, _ := scan(data[:end], func(Record, int64) {})
		if again != end {
			t.Errorf("cut at %d, then at %d", end, again)
		}
	})
}
