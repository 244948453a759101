package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/up"
)

// Nodes of the shared cluster offer what is in meterFolder as skerry.dev/<meterClass>. Each has a folder of its own there.
const (
	meterClass  = "meter"
	meterFolder = "/dev/skerry-e2e"
	meter       = corev1.ResourceName("skerry.dev/" + meterClass)
)

// meters are devices that the test plugs into nodes: nodes of the kernel's log, which anybody may open for writing who may
// reach it, and no container may.
type meters struct{ space }

func newMeters(s space) meters {
	s.Helper()
	if err := os.MkdirAll(meterFolder, 0o755); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := os.Remove(meterFolder); err != nil {
			s.Error(err)
		}
	})
	return meters{s}
}

// on runs a program in the node's view of the file systems.
func (m meters) on(node string, args ...string) {
	m.Helper()
	state, err := shared.State(context.Background()) // in a cleanup too
	if err != nil {
		m.Fatal(err)
	}
	i := slices.IndexFunc(state.Nodes, func(n up.NodeState) bool { return n.Name == node })
	inside := append([]string{"-t", strconv.Itoa(state.Nodes[i].InitPID), "-p", "-m", "--"}, args...)
	if out, err := exec.Command("nsenter", inside...).CombinedOutput(); err != nil {
		m.Errorf("%s on %s: %v\n%s", strings.Join(args, " "), node, err, out)
	}
}

func (m meters) prepare(node string) {
	m.Helper()
	m.on(node, "mount", "-t", "tmpfs", "tmpfs", meterFolder)
	m.Cleanup(func() { m.on(node, "umount", "-l", meterFolder) })
}

func (m meters) plug(node string) {
	m.Helper()
	m.on(node, "mknod", filepath.Join(meterFolder, "m0"), "c", "1", "11")
	m.offered(node, 1)
}

func (m meters) unplug(node string) {
	m.Helper()
	m.on(node, "rm", filepath.Join(meterFolder, "m0"))
}

// offered waits until the node has n of them.
func (m meters) offered(node string, n int64) {
	m.Helper()
	await(m.space, fmt.Sprintf("%d %s on %s", n, meter, node), "node "+node, func(o corev1.Node) bool {
		q := o.Status.Allocatable[meter]
		return q.Value() == n
	})
}

// reader is the pod of the deployment that runs, on which node it may be; empty means any.
func (m meters) reader(node string) corev1.Pod {
	m.Helper()
	l := await(m.space, "reader on "+node, "pods -l app=reader", func(l corev1.PodList) bool {
		for _, p := range l.Items {
			if isReady(p) && p.Spec.NodeName == node {
				return true
			}
		}
		return false
	})
	for _, p := range l.Items {
		if isReady(p) && p.Spec.NodeName == node {
			return p
		}
	}
	return corev1.Pod{}
}

// TestDevices: a device is given to one container, which uses it as an ordinary user in a user namespace; others cannot. When
// it is unplugged its pod says so and another takes its place where there is one.
func TestDevices(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	m := newMeters(s)
	const a, b = "n1", "n2"
	m.prepare(a)
	m.prepare(b)
	m.plug(a)
	limits := "resources: {limits: {skerry.dev/meter: 1}}\nterminationMessagePolicy: FallbackToLogsOnError"
	s.apply(`apiVersion: apps/v1
kind: Deployment
metadata: {name: reader}
spec:
  selector: {matchLabels: {app: reader}}
  template:
    metadata: {labels: {app: reader}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: IMAGE
        args: [device, SKERRY_DEVICE_METER]
        securityContext: {runAsUser: 1234, runAsGroup: 1234, capabilities: {drop: [ALL]}}
        resources: {limits: {skerry.dev/meter: 1}}
`)
	first := m.reader(a)
	s.logs("opened "+meterFolder+"/m0", first.Name)
	s.wants(s.kubectl("describe node "+a), "skerry.dev/meter")
	if inv := get[api.NodeInventory](s, "nodeinventory "+a); !hasResource(inv, string(meter)) {
		t.Errorf("the inventory does not have %s: %+v", meter, inv.Inventory.Devices)
	}
	m.others(a, limits)
	m.plug(b)
	m.unplug(a)
	lost := await(s, "the pod says that its device is gone", "pod "+first.Name, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if lost.Status.Reason != "DeviceLost" || !strings.Contains(lost.Status.Message, meterFolder+"/m0") {
		t.Errorf("%s: %q", lost.Status.Reason, lost.Status.Message)
	}
	m.offered(a, 0)
	m.reader(b)
	m.unplug(b)
	m.offered(b, 0)
	m.plug(a)
	m.reader(a)
}

// others are a pod that waits for the device, and one that tries to use it without having been given it.
func (m meters) others(node, limits string) {
	m.Helper()
	m.apply(podManifest("waits", "", "args: [device, SKERRY_DEVICE_METER]\n"+limits))
	await(m.space, "the second pod waits", "pod waits", func(p corev1.Pod) bool {
		return strings.Contains(condition(p, corev1.PodScheduled).Message, "Insufficient skerry.dev/meter")
	})
	m.kubectl("delete pod waits --grace-period=0 --force")
	m.apply(podManifest("thief", "restartPolicy: Never\nhostUsers: true\nnodeName: "+node, "args: [node, /dev/m0, \"1\", \"11\"]\nterminationMessagePolicy: FallbackToLogsOnError"))
	if end := terminated(m.ended("thief")); end.ExitCode == 0 || !strings.Contains(end.Message, "operation not permitted") || strings.Contains(end.Message, "mknod") {
		m.Errorf("a container without the device ended with %+v", end)
	}
}

func hasResource(inv api.NodeInventory, resource string) bool {
	for _, d := range inv.Inventory.Devices {
		if d.Resource == resource {
			return true
		}
	}
	return false
}
