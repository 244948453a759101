package hwprobe

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skerry.dev/skerry/api"
)

// machine is a board that tests plug things into.
type machine struct {
	mu        sync.Mutex
	inventory api.Inventory
	probes    int
	events    chan<- struct{}
	heard     []api.Inventory
	at        []time.Duration // when they were, since the start
	err       error
}

// watch runs a watcher in a bubble, and f beside it.
func watch(t *testing.T, m *machine, f func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		w := watcher{
			log:   slog.New(slog.DiscardHandler),
			probe: m.probe,
			listen: func(ctx context.Context, events chan<- struct{}) error {
				m.events = events
				<-ctx.Done()
				return ctx.Err()
			},
			changed: func(inv api.Inventory) { m.heard, m.at = append(m.heard, inv), append(m.at, time.Since(start)) },
		}
		ended := make(chan error, 1) // one result
		go func() { ended <- w.run(ctx) }()
		synctest.Wait()
		f()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) && m.err == nil {
			t.Errorf("watch ended with %v", err)
		}
	})
}

func (m *machine) probe() (api.Inventory, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probes++
	return m.inventory, m.err
}

// change changes the hardware.
func (m *machine) change(f func(inv *api.Inventory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inv := m.inventory.DeepCopy()
	f(inv)
	m.inventory = *inv
}

// uevent is what the kernel's messages become.
func (m *machine) uevent() {
	select {
	case m.events <- struct{}{}:
	default:
	}
}

func stick() api.USB {
	return api.USB{Path: "1-1", Class: "08", Vendor: "0781", Product: "5583", Name: "SanDisk Ultra Fit"}
}

func TestWatchReportsAPluggedStickAndItsRemoval(t *testing.T) {
	m := &machine{}
	watch(t, m, func() {
		m.change(func(inv *api.Inventory) { inv.USB = []api.USB{stick()} })
		for range 5 { // one stick is many messages
			m.uevent()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		m.change(func(inv *api.Inventory) { inv.USB = nil })
		m.uevent()
		time.Sleep(time.Second)
	})
	if len(m.heard) != 3 || len(m.heard[1].USB) != 1 || len(m.heard[2].USB) != 0 {
		t.Fatalf("heard %+v", m.heard)
	}
	if m.probes != 3 {
		t.Errorf("probed %d times for two changes", m.probes)
	}
}

// TestWatchIsNotPutOff: on a busy node there is always another message before things have settled.
func TestWatchIsNotPutOff(t *testing.T) {
	m := &machine{}
	watch(t, m, func() {
		m.change(func(inv *api.Inventory) { inv.USB = []api.USB{stick()} })
		for range 100 {
			m.uevent()
			time.Sleep(100 * time.Millisecond)
		}
	})
	if len(m.heard) != 2 || m.at[1] > 5*time.Second {
		t.Errorf("the stick was reported after %v", m.at)
	}
}

func TestWatchLooksNowAndThen(t *testing.T) {
	m := &machine{}
	watch(t, m, func() {
		m.change(func(inv *api.Inventory) { inv.Memory.TotalBytes = 1 << 30 })
		time.Sleep(fallback + time.Second)
	})
	if len(m.heard) != 2 {
		t.Errorf("a change without a message was not found: %v", m.at)
	}
}

func TestWatchIgnoresReadings(t *testing.T) {
	percent := 80
	m := &machine{inventory: api.Inventory{
		Sensors: []api.Sensor{{Chip: "cpu", Value: 40}}, Clocks: []api.Clock{{Name: "rtc", EpochSec: 1}},
		Power: []api.Supply{{Name: "BAT0", CapacityPercent: &percent}}, Memory: api.Memory{HugePages: []api.HugePage{{SizeBytes: 1 << 21, Total: 2, Free: 2}}},
	}}
	watch(t, m, func() {
		m.change(func(now *api.Inventory) {
			now.Sensors[0].Value, now.Clocks[0].EpochSec, now.Memory.HugePages[0].Free = 90, 2, 0
			*now.Power[0].CapacityPercent, now.Power[0].Status = 5, "Discharging"
			now.Links = []api.Link{{Name: "veth0", Type: "veth"}, {Name: "ifb0", Type: "virtual"}}
		})
		m.uevent()
		time.Sleep(time.Minute)
	})
	if len(m.heard) != 1 || m.probes < 2 {
		t.Errorf("after %d probes readings were reported as changes: %+v", m.probes, m.heard)
	}
}

func TestWatchGivesUpWhenNothingCanBeRead(t *testing.T) {
	m := &machine{err: errors.New("no /proc")}
	watch(t, m, func() {})
	if len(m.heard) != 0 {
		t.Errorf("reported %+v", m.heard)
	}
}

func TestAboutHardware(t *testing.T) {
	for message, want := range map[string]bool{
		"add@/devices/pci0000:00/0000:00:14.0/usb1/1-1\x00ACTION=add":                 true,
		"remove@/devices/pci0000:00/0000:00:17.0/ata3/host3/target3:0:0/block/sdb":    true,
		"offline@/devices/system/cpu/cpu1\x00ACTION=offline":                          true,
		"change@/devices/platform/soc/fe300000.mmcnr/power_supply/BAT0\x00SEQNUM=412": true,
		"add@/devices/virtual/net/veth12ab34\x00ACTION=add":                           false,
		"add@/devices/virtual/block/loop3\x00":                                        false,
		"add@/module/overlay\x00":                                                     false,
		"add@/kernel/slab/:0000192\x00":                                               false,
		"libudev\x00\xfe\xed\xca\xfe":                                                 false,
		"":                                                                            false,
	} {
		if got := aboutHardware([]byte(message)); got != want {
			t.Errorf("%q: %v, want %v", message, got, want)
		}
	}
}

// TestUevents has the kernel send a message about a device of this machine, and one about a device that is none.
func TestUevents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the kernel sends messages on request to root only: run the tests as root")
	}
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan struct{}, 1)
	ended := make(chan error, 1) // one result
	go func() { ended <- uevents(ctx, events) }()
	ask(t, hardware(t), events)
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the listener does not end with its context")
	}
}

// TestWatchHearsTheKernel is the whole way from the kernel's message to the report.
func TestWatchHearsTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the kernel sends messages on request to root only: run the tests as root")
	}
	m := &machine{}
	heard := make(chan api.Inventory, 8) // more than there are changes
	w := watcher{log: slog.New(slog.DiscardHandler), probe: m.probe, listen: uevents, changed: func(inv api.Inventory) { heard <- inv }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one result
	go func() { ended <- w.run(ctx) }()
	<-heard // the first
	m.change(func(inv *api.Inventory) { inv.USB = []api.USB{stick()} })
	told := make(chan struct{}, 1) // one token
	go func() {
		if inv := <-heard; len(inv.USB) == 1 {
			told <- struct{}{}
		}
	}()
	ask(t, hardware(t), told)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// ask asks until an answer comes: the listener may not be there at first.
func ask(t *testing.T, device string, events <-chan struct{}) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if err := os.WriteFile(device, []byte("change"), 0); err != nil {
			t.Fatal(err)
		}
		select {
		case <-events:
			return
		case <-deadline:
			t.Fatalf("nothing was heard of %s", device)
		case <-time.After(time.Second): // longer than things take to settle
		}
	}
}

// hardware is the uevent file of a device that is not virtual.
func hardware(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/sys/bus/*/devices/*/uevent")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		real, err := filepath.EvalSymlinks(f)
		if err == nil && strings.HasPrefix(real, "/sys/devices/") && !strings.HasPrefix(real, "/sys/devices/virtual/") {
			return real
		}
	}
	t.Skip("no hardware below /sys/bus: mount sysfs")
	return ""
}
