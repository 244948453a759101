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
