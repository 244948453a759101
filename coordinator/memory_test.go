package coordinator

import (
	"log/slog"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsReturned(t *testing.T) {
	waste := make([][]byte, 200)
	for i := range waste {
		waste[i] = make([]byte, 1<<20)
		waste[i][0] = 1
	}
	before, _ := usage()
	runtime.KeepAlive(waste)
	runtime.GC() // as it runs every two minutes in a process that is idle
	(&memory{log: slog.New(slog.DiscardHandler)}).release()
	if after, _ := usage(); after > before-(150<<20) {
		t.Errorf("%d MiB are held, %d before they were of no use", after>>20, before>>20)
	}
}

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name string
		busy bool
		live uint64
		want int
	}{
		{"calm", false, 10 << 20, 100},
		{"busy and small", true, 24 << 20, 400},
		{"busy and almost nothing", true, 1, 1200},
		{"busy and as large as what it may waste", true, 96 << 20, 100},
		{"busy and large", true, 1 << 30, 100},
	} {
		if got := pacePercent(tt.busy, tt.live); got != tt.want {
			t.Errorf("%s: %d %%, want %d %%", tt.name, got, tt.want)
		}
	}
}

// A process that allocates its heap over and over is let grow, and one that has come to rest is not.
func TestPaceFollowsWhatIsAllocated(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(calmPercent))
	m := &memory{log: slog.New(slog.DiscardHandler)}
	now := func() int { p := debug.SetGCPercent(calmPercent); debug.SetGCPercent(p); return p }
	for range 2 {
		runtime.GC() // the last collection may have been long before what other tests have left was there
		_, live := allocations()
		for range 2*busyTurns*live>>20 + 16 {
			waste = make([]byte, 1<<20)
		}
		m.pace()
	}
	if now() <= calmPercent {
		t.Errorf("%d %% when busy", now())
	}
	for range busyLooks {
		m.pace()
	}
	if now() != calmPercent {
		t.Errorf("%d %% at rest", now())
	}
}

var waste []byte // keeps what is allocated from being optimised away
