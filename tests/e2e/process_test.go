package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// pid finds the process of a pod's first container on this machine, by the container's name in its control group.
func (s space) pid(p corev1.Pod) int {
	s.Helper()
	_, id, ok := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	if !ok {
		s.Fatalf("%s has no container", p.Name)
	}
	pids := processesIn(id)
	if len(pids) == 0 {
		s.Fatalf("container %s of pod %s has no process", id, p.Name)
	}
	return pids[0]
}

// processesIn lists processes whose control group names the container.
func processesIn(id string) []int {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		panic(err) // the pattern is wrong
	}
	var out []int
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(data), id) {
			continue // it has ended, or is another's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// killContainer ends a pod's first container from outside.
func (s space) killContainer(p corev1.Pod) {
	s.Helper()
	if err := syscall.Kill(s.pid(p), syscall.SIGKILL); err != nil {
		s.Fatal(err)
	}
}

// groupFile reads a file of a process's control group, whichever version has the controller.
func groupFile(t *testing.T, pid int, controller, v1, v2 string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	path := ""
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] == "" && path == "" {
			path = filepath.Join("/sys/fs/cgroup", parts[2], v2)
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			if name == controller {
				path = filepath.Join("/sys/fs/cgroup", controller, parts[2], v1)
			}
		}
	}
	value, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(value))
}

// TestSysctls: a pod's own kernel settings are as it says, without privileges; those that are the node's are refused by it.
func TestSysctls(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  restartPolicy: Never
  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"}, {name: net.ipv4.ip_local_port_range, value: "10000 20000"}]}
  containers: [{name: c, image: ` + imageBox + `, command: [cat, /proc/sys/kernel/shm_rmid_forced, /proc/sys/net/ipv4/ip_local_port_range]}]
---
apiVersion: v1
kind: Pod
metadata: {name: theirs}
spec:
  restartPolicy: Never
  securityContext: {sysctls: [{name: kernel.shmmax, value: "1"}]}
  containers: [{name: c, image: ` + imageBox + `, command: ["true"]}]
`)
	s.ended("own")
	s.logs("1\n10000\t20000\n", "own")
	p := s.ended("theirs")
	if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "SysctlForbidden" || !strings.Contains(p.Status.Message, `"kernel.shmmax" not allowlisted`) {
		t.Errorf("%s, %s, %q", p.Status.Phase, p.Status.Reason, p.Status.Message)
	}
}

// TestReadinessGate: a pod is ready once its containers are and somebody else says so, and no longer when he takes it back.
func TestReadinessGate(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec:
  readinessGates: [{conditionType: example.com/gate}]
  containers: [{name: c, image: IMAGE, args: [sleep]}]
`)
	says := func(kind corev1.PodConditionType, status corev1.ConditionStatus, reason string) func(corev1.Pod) bool {
		return func(p corev1.Pod) bool {
			for _, c := range p.Status.Conditions {
				if c.Type == kind {
					return c.Status == status && c.Reason == reason
				}
			}
			return false
		}
	}
	await(s, "containers ready", "pod gated", says(corev1.ContainersReady, corev1.ConditionTrue, ""))
	await(s, "gate closed", "pod gated", says(corev1.PodReady, corev1.ConditionFalse, "ReadinessGatesNotReady"))
	for _, status := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse} {
		s.kubectlArgs("", "patch", "pod", "gated", "--subresource=status", "-p", `{"status":{"conditions":[{"type":"example.com/gate","status":"`+string(status)+`"}]}}`)
		reason := map[corev1.ConditionStatus]string{corev1.ConditionFalse: "ReadinessGatesNotReady"}[status]
		await(s, "gate "+string(status), "pod gated", says(corev1.PodReady, status, reason))
		await(s, "the gate stays as it was put", "pod gated", says("example.com/gate", status, ""))
	}
}
