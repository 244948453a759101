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
	spareBytes = 6 << 20

	// paceEvery is how often the collector's pace is looked after. A heap that is allocated busyTurns times over meanwhile is
	// busy, and taken for busy for busyLooks more.
	paceEvery = time.Second
	busyTurns = 4
	busyLooks = 10
	// startTime is when the pace is looked after first: what a start leaves behind is not to take room for the next minute.
	startTime = 10 * time.Second
	// busyBytes is how much a busy coordinator may allocate from one collection to the next, at least. With the runtime's
	// own pace, as much as is in use, a small one under load would collect many times a second, for a tenth of its CPU.
	busyBytes = 96 << 20
	// calmPercent is the runtime's own pace, see debug.SetGCPercent.
	calmPercent = 100
)

// memory keeps the process small. The runtime lets a heap grow to twice what is in use and returns it reluctantly: a
// coordinator that was busy once would stay as large for long, on a machine that has other things to run.
type memory struct {
	view    *view.View
	objects *objects.Store
	log     *slog.Logger

	allocated uint64 // bytes in all, at the last look
	busy      int    // looks for which it is taken for busy
}

// run tidies until ctx ends.
func (m *memory) run(ctx context.Context) error {
	tick, pace := time.NewTicker(tidyEvery), time.NewTicker(startTime)
	defer tick.Stop()
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pace.C:
			m.pace()
			pace.Reset(paceEvery)
		case now := <-tick.C:
			m.view.Tidy(now)
			m.objects.Tidy(now)
			m.release()
		}
	}
}

// pace lets a small heap grow while it is busy, and takes that back when it is not.
func (m *memory) pace() { debug.SetGCPercent(m.look(allocations())) }

// look takes what allocations says and gives the collector's pace.
func (m *memory) look(allocated, live uint64) (percent int) {
	switch {
	case m.allocated == 0: // the first look has nothing to compare with
	case allocated-m.allocated >= busyTurns*live:
		m.busy = busyLooks
	default:
		m.busy = max(0, m.busy-1)
	}
	m.allocated = allocated
	return pacePercent(m.busy > 0, live)
}

// pacePercent is how much may be allocated before the next collection, in percent of what is in use.
func pacePercent(busy bool, live uint64) int {
	if !busy {
		return calmPercent
	}
	const least = 8 << 20                                        // what the runtime takes a heap for
	return max(calmPercent, int(busyBytes*100/max(live, least))) //nolint:gosec // at most 1200
}

// allocations are the bytes that were ever allocated, and those that were in use at the last collection.
func allocations() (all, live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
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
