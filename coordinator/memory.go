package coordinator

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
)

const (
	// tidyEvery is how often memory is looked after.
	tidyEvery = time.Minute
	// spareBytes is what the process may hold beside the heap in use and half of that again: stacks, the runtime's own,
	// and buffers that come and go. It keeps a small coordinator from collecting for nothing.
	spareBytes = 24 << 20
)

// memory keeps the process small. The runtime lets a heap grow to twice what is in use and returns it reluctantly: a
// coordinator that was busy once would stay as large for long, on a machine that has other things to run.
type memory struct {
	view    *view.View
	objects *objects.Store
	log     *slog.Logger
}

// run tidies until ctx ends.
func (m *memory) run(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			m.view.Tidy(now)
			m.objects.Tidy(now)
			m.release()
		}
	}
}

// release returns memory to the system when much of it is not in use.
func (m *memory) release() {
	held, live := usage()
	if held <= live+live/2+spareBytes {
		return
	}
	runtime.GC() // one collection to age the pools of buffers, and the second, which empties them, is FreeOSMemory's
	debug.FreeOSMemory()
	now, _ := usage()
	m.log.Debug("memory returned", "before", held, "after", now)
}

// usage is what the runtime holds of the system's memory, and what of the heap was in use at the last collection.
func usage() (held, live uint64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64(), samples[2].Value.Uint64()
}
