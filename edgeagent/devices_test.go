package edgeagent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/device"
)

// plug makes nodes that stand for devices, and has the agent follow them until it is killed.
func (w *world) plug(names ...string) (dir string) {
	w.t.Helper()
	dir = filepath.Join(w.dir, "dev")
	must(w.t, os.MkdirAll(dir, 0o755))
	for _, name := range names {
		must(w.t, unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))))
	}
	rules, err := device.ParseRules([]string{"meter path=" + dir + "/meter*"})
	must(w.t, err)
	ledger, err := device.Open(filepath.Join(w.dir, "devices.json"))
	must(w.t, err)
	w.loop.node.devices = ledger
	d := &devices{
		settings: device.Settings{Rules: rules}, ledger: ledger, pods: w.loop.all, changed: func(api.Inventory) {},
		found: make(chan api.Inventory, 1), log: w.loop.log,
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	stop := w.stop
	w.stop = func() { cancel(); stop() }
	go func() { _ = d.run(ctx) }() // until the context ends, which is all it returns
	d.found.put(api.Inventory{})
	w.settle(0)
	return dir
}

const metered = `containers: [{name: app, image: web, resources: {limits: {skerry.dev/meter: 1}}}]`

// TestDeviceClaims: one device, two pods: the second waits for the first, whatever restarts meanwhile.
func TestDeviceClaims(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		dir := w.plug("meter0")
		one, two := aPod(t, "u1", metered), aPod(t, "u2", metered)
		w.desire(one)
		w.check("running", w.keeper.running(), []string{"u1-app-0"})
		spec := w.keeper.spec("u1-app-0")
		path := filepath.Join(dir, "meter0")
		if len(spec.Devices) != 1 || spec.Devices[0].HostPath != path || !spec.Devices[0].AccessOnly {
			t.Errorf("devices: %+v", spec.Devices)
		}
		if !strings.Contains(strings.Join(spec.Env, " "), "SKERRY_DEVICE_METER="+path) {
			t.Errorf("environment: %v", spec.Env)
		}
		mount := spec.Mounts[len(spec.Mounts)-1]
		var st unix.Stat_t
		must(t, unix.Stat(mount.Source, &st))
		if mount.Destination != path || st.Rdev != unix.Mkdev(1, 7) || st.Mode&0o777 != 0o660 {
			t.Errorf("mount %+v of %o", mount, st.Mode)
		}
		w.desire(one, two)
		w.settle(time.Second)
		w.check("the second waits", w.phase("u2"), "Pending DeviceUnavailable 0")
		w.keeper.exit("u1-app-0", 1)
		w.settle(time.Second)
		w.check("a restart keeps it", w.keeper.running(), []string{"u1-app-1"})
		w.kill()
		w.boot()
		w.plug()
		w.settle(time.Second)
		w.check("so does a new agent", w.keeper.running(), []string{"u1-app-1"})
		w.desire(two)
		w.settle(time.Minute)
		w.check("then the second has it", w.keeper.running(), []string{"u2-app-0"})
	})
}

// TestDeviceIsUnplugged: its pod fails with the reason, and the device can be claimed when it is there again.
func TestDeviceIsUnplugged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		dir := w.plug("meter0")
		one := aPod(t, "u1", metered)
		w.desire(one)
		must(t, os.Remove(filepath.Join(dir, "meter0")))
		w.settle(10 * time.Second)
		w.check("a moment is nothing", w.phase("u1"), "Running ready 0")
		w.settle(20 * time.Second)
		s, _ := w.reports.status("u1")
		w.check("words", []string{string(s.Phase), s.Reason, s.Message},
			[]string{"Failed", DeviceLost, "Device " + dir + "/meter0 (skerry.dev/meter) of container app is gone from the node"})
		w.check("running", w.keeper.running(), []string(nil))
		w.check("claims", w.loop.node.devices.Owners(), []string(nil))
		late := aPod(t, "u2", metered)
		w.desire(one, late)
		w.settle(time.Second)
		s, _ = w.reports.status("u2")
		w.check("without it", []string{string(s.Phase), s.Reason}, []string{"Failed", "UnexpectedAdmissionError"})
		must(t, unix.Mknod(filepath.Join(dir, "meter0"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))))
		w.settle(5 * time.Second)
		w.desire(one, late, aPod(t, "u3", metered))
		w.settle(time.Second)
		w.check("plugged in again", w.keeper.running(), []string{"u3-app-0"})
	})
}
