package hwprobe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/api"
)

const (
	settle   = 500 * time.Millisecond // a plugged device comes in many uevents; probe once after the last
	fallback = 60 * time.Second       // and now and then without any, for what sends none
)

// Watch calls changed with the first inventory, and again within seconds whenever hardware comes or goes, until ctx ends.
// It listens to the kernel's uevents; where that is not allowed it looks once a minute, and logs so.
func Watch(ctx context.Context, log *slog.Logger, changed func(api.Inventory)) error {
	events := make(chan struct{}, 1) // one is enough: the receiver looks at everything
	go func() {
		if err := uevents(ctx, events); err != nil && ctx.Err() == nil {
			log.Warn("no hot-plug events, looking for changes once a minute", "err", err)
		}
	}()
	var last api.Inventory
	for {
		inv, err := Host()
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(stable(inv), stable(last)) {
			last = inv
			changed(inv)
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
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-events:
			timer.Reset(settle)
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
	// Pods come and go with their veths; they are not hardware.
	links := inv.Links[:0]
	for _, l := range inv.Links {
		if l.Type != "veth" {
			links = append(links, l)
		}
	}
	inv.Links = links
	return inv
}

// uevents puts a token into events for each message of the kernel's uevent group, until ctx ends.
func uevents(ctx context.Context, events chan<- struct{}) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("open uevent socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("listen to uevents: %w", err)
	}
	// A receive that ends by itself once a second lets ctx end us; a blocked one would not notice.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("listen to uevents: %w", err)
	}
	buf := make([]byte, 8<<10)
	for ctx.Err() == nil {
		_, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS): // ENOBUFS: too many at once, so there was one
			return fmt.Errorf("read uevents: %w", err)
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
	return ctx.Err()
}
