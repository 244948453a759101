package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/volume"
)

// devicesEvery is how often the device nodes that rules name are looked for: the kernel tells of hardware, of nodes nobody.
const devicesEvery = 2 * time.Second

// DeviceLost is the reason of a pod that has failed because a device it claimed is gone.
const DeviceLost = "DeviceLost"

// devices follows what can be claimed of this machine, and ends the pods whose devices are gone.
type devices struct {
	settings device.Settings
	ledger   *device.Ledger
	pods     func() []*worker
	// changed takes the inventory with what can be claimed.
	changed func(api.Inventory)
	found   latest[api.Inventory]
	log     *slog.Logger

	// --- owned by run's goroutine:

	inventory api.Inventory
	offered   []device.Device
}

// run works until ctx ends, from the first inventory on.
func (d *devices) run(ctx context.Context) error {
	select {
	case d.inventory = <-d.found:
	case <-ctx.Done():
		return ctx.Err()
	}
	d.refresh(true)
	tick := time.NewTicker(devicesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d.inventory = <-d.found:
			d.refresh(true)
		case <-tick.C:
			d.refresh(false)
		}
		d.endLost(ctx, time.Now())
	}
}

// refresh looks at what there is and tells of it when it has changed.
func (d *devices) refresh(told bool) {
	offered, inv := device.Sort(d.settings, d.inventory, d.files())
	d.ledger.Set(offered, time.Now())
	if told || !slices.Equal(offered, d.offered) {
		if !slices.Equal(offered, d.offered) {
			d.log.Info("devices that can be claimed", "devices", len(offered), "before", len(d.offered))
		}
		d.offered = offered
		d.changed(inv)
	}
}

// files are the device nodes at the paths that rules name, with these paths.
func (d *devices) files() map[string][]string {
	out := map[string][]string{}
	for _, r := range d.settings.Rules {
		if r.Path == "" {
			continue
		}
		paths, err := filepath.Glob(r.Path)
		if err != nil {
			continue // the settings were checked
		}
		for _, path := range paths {
			real, err := filepath.EvalSymlinks(path)
			if err != nil {
				continue // it was there a moment ago
			}
			if info, err := os.Stat(real); err == nil && info.Mode()&os.ModeDevice != 0 {
				out[real] = append(out[real], path)
			}
		}
	}
	return out
}

// endLost ends the pods whose devices are gone, with the time to stop that they ask for.
func (d *devices) endLost(ctx context.Context, now time.Time) {
	lost, _ := d.ledger.Lost(now)
	for _, c := range lost {
		message := fmt.Sprintf("Device %s (%s%s) of container %s is gone from the node", c.Path, device.ResourcePrefix, c.Class, c.Container)
		for _, w := range d.pods() {
			if w.uid == c.UID {
				w.call(ctx, func() {
					w.rule(pod.Ruling{Reason: DeviceLost, Message: message, Grace: graceOf(w.want.Pod), Disrupted: true})
				})
			}
		}
	}
}

func graceOf(p *corev1.Pod) time.Duration {
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// deviceWants are the devices that a container asks for, by class.
func deviceWants(c *corev1.Container) map[string]int64 {
	out := map[string]int64{}
	for name, q := range c.Resources.Limits {
		if class, ours := strings.CutPrefix(string(name), device.ResourcePrefix); ours && q.Value() > 0 {
			out[class] = q.Value()
		}
	}
	return out
}

// hardware is what a container gets of the devices that it has claimed.
type hardware struct {
	mounts []volume.Attachment
	access []keeper.Device
	env    []string
}

// claim takes the devices that the container asks for and makes their nodes: its own ones, so that its user may use them
// whatever the host's groups are, also in a user namespace. Where they are is in SKERRY_DEVICE_<CLASS>.
func (j *job) claim(user keeper.User) (hardware, error) {
	wants := deviceWants(j.container)
	if j.node.devices == nil || len(wants) == 0 {
		return hardware{}, nil
	}
	claims, err := j.node.devices.Claim(j.worker.uid, j.container.Name, wants)
	if errors.Is(err, device.ErrTooFew) {
		return hardware{}, &pod.Failure{Reason: unexpectedAdmission, Err: err}
	}
	if err != nil {
		return hardware{}, &pod.Failure{Reason: "DeviceUnavailable", Err: err}
	}
	var h hardware
	paths := map[string][]string{}
	for _, c := range claims {
		node, err := j.node.volumes.DeviceNode(j.worker.uid, j.container.Name, c.Path, int(user.UID), int(user.GID))
		if err != nil {
			return hardware{}, &pod.Failure{Reason: "DeviceUnavailable", Err: err}
		}
		h.mounts = append(h.mounts, volume.Attachment{Source: node, Destination: c.Path, Propagation: "private"})
		h.access = append(h.access, keeper.Device{HostPath: c.Path, AccessOnly: true, Permissions: "rw"})
		paths[c.Class] = append(paths[c.Class], c.Path)
	}
	for class, list := range paths {
		h.env = append(h.env, "SKERRY_DEVICE_"+strings.ToUpper(strings.ReplaceAll(class, "-", "_"))+"="+strings.Join(list, ","))
	}
	slices.Sort(h.env)
	return h, nil
}

// unexpectedAdmission is the kubelet's reason for a pod whose devices are not there.
const unexpectedAdmission = "UnexpectedAdmissionError"

// rejectWithout ends a pod that the node lacks the devices for: its owner makes another, which is placed by what is there now.
func (w *worker) rejectWithout(err error) {
	if errors.Is(err, device.ErrTooFew) {
		w.rule(pod.Ruling{Reason: unexpectedAdmission, Message: "Pod was rejected: " + err.Error(), Grace: graceOf(w.want.Pod)})
	}
}
