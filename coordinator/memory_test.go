package coordinator

import (
	"log/slog"
	"runtime"
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

// A heap that is allocated over and over is let grow, and one that has come to rest is not, some looks later.
func TestPaceFollowsWhatIsAllocated(t *testing.T) {
	const live = 24 << 20
	m, allocated := &memory{}, uint64(100*live)
	for _, step := range []struct {
		name  string
		more  uint64
		looks int
		want  int
	}{
		{"first look", 0, 1, calmPercent},
		{"little", busyTurns*live - 1, 5, calmPercent},
		{"much", busyTurns * live, 1, 400},
		{"rest", 0, busyLooks - 1, 400},
		{"more rest", 0, 1, calmPercent},
	} {
		got := 0
		for range step.looks {
			allocated += step.more
			got = m.look(allocated, live)
		}
		if got != step.want {
			t.Errorf("%s: %d %%, want %d %%", step.name, got, step.want)
		}
	}
}
