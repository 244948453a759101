package hwprobe

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"skerry.dev/skerry/api"
)

const (
	settle   = 500 * time.Millisecond // a plugged device comes in many uevents; probe once after the last
	patience = 2 * time.Second        // but not later than this after the first
	fallback = 60 * time.Second       // and now and then without any, for what sends none
)

// Watch calls changed with the first inventory, and again within seconds whenever hardware comes or goes, until ctx ends.
// It listens to the kernel's uevents; where that is not allowed it looks once a minute, and logs so. It returns an error
// when the machine cannot be probed.
func Watch(ctx context.Context, log *slog.Logger, changed func(api.Inventory)) error {
	w := watcher{log: log, probe: Host, listen: uevents, changed: changed}
	return w.run(ctx)
}

// watcher is Watch over any source of inventories and of events.
type watcher struct {
	log     *slog.Logger
	probe   func() (api.Inventory, error)
	listen  func(ctx context.Context, events chan<- struct{}) error // until ctx ends; a send must never wait
	changed func(api.Inventory)
}

func (w *watcher) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	events := make(chan struct{}, 1) // one is enough: the receiver looks at everything
	g.Go(func() {
		if err := w.listen(ctx, events); err != nil && ctx.Err() == nil {
			w.log.Warn("no hot-plug events, looking for changes once a minute", "err", err)
		}
	})
	var last *api.Inventory
	for {
		inv, err := w.probe()
		if err != nil {
			return err
		}
		if now := stable(inv); last == nil || !reflect.DeepEqual(now, *last) {
			last = &now
			w.changed(inv)
		}
		if err := await(ctx, events); err != nil {
			return err
		}
	}
}

// await returns when it is time to look again.
func await(ctx context.Context, events <-chan struct{}) error {
	timer := time.NewTimer(fallback)
	defer timer.Stop()
	var latest time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-events:
			now := time.Now()
			if latest.IsZero() {
				latest = now.Add(patience)
			}
			timer.Reset(min(settle, latest.Sub(now)))
		}
	}
}

// stable is the part of an inventory that changes only when hardware does: without readings, free pages and clocks.
func stable(inv api.Inventory) api.Inventory {
	inv = *inv.DeepCopy()
	for i := range inv.Sensors {
		inv.Sensors[i].Value = 0
	}
	for i := range inv.Clocks {
		inv.Clocks[i].EpochSec = 0
	}
	for i := range inv.Memory.HugePages {
		inv.Memory.HugePages[i].Free = 0
	}
	for i := range inv.Power {
		inv.Power[i].CapacityPercent, inv.Power[i].Status = nil, ""
	}
	// Pods come and go with links of their own; they are not hardware.
	all := inv.Links
	inv.Links = nil
	for _, l := range all {
		if l.Physical || l.Type != "veth" && l.Type != "virtual" {
			inv.Links = append(inv.Links, l)
		}
	}
	return inv
}
