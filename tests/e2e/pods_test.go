package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// podManifest is one pod; container is the YAML of its only container, spec what else the pod has.
func podManifest(name, spec, container string) string {
	indent := func(text, by string) string {
		return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
	}
	out := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec:\n", name, name)
	if spec != "" {
		out += indent(spec, "  ") + "\n"
	}
	return out + "  containers:\n  - name: c\n    image: IMAGE\n" + indent(container, "    ") + "\n---\n"
}

func TestPodEnvironment(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create configmap settings --from-literal=colour=green --from-literal=size=big")
	s.kubectl("create secret generic keys --from-literal=password=hunter2")
	s.apply(podManifest("p", "", `
args: [serve, ":$(PORT)"]
workingDir: /proc
env:
- {name: PORT, value: "8080"}
- {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
- {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
- {name: MISSING, valueFrom: {secretKeyRef: {name: nope, key: x, optional: true}}}
- {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: MY_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
- {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
- {name: BOTH, value: "$(COLOUR)-$(PORT)-$$(PORT)"}
envFrom:
- {prefix: CM_, configMapRef: {name: settings}}
resources: {limits: {memory: 32Mi}}
`))
	p := s.ready("p")
	for name, want := range map[string]string{
		"COLOUR": "green", "PASSWORD": "hunter2", "MISSING": "", "NODE": p.Spec.NodeName, "MY_IP": p.Status.PodIP, "APP": "p",
		"MEMORY": "33554432", "BOTH": "green-8080-$(PORT)", "CM_size": "big", "VERSION": "1", "HOSTNAME": "p",
	} {
		if got := s.ask(p, "/env?name="+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := s.ask(p, "/"); got != "p" {
		t.Errorf("hostname is %q", got)
	}
	s.wants(s.ask(p, "/read?path=self/cmdline"), "serve\x00:8080\x00")
	s.wants(s.ask(p, "/read?path=/etc/hosts"), p.Status.PodIP+"\tp")
}

func TestPodWithMissingSettings(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("p", "", `env: [{name: A, valueFrom: {configMapKeyRef: {name: late, key: a}}}]`))
	await(s, "reason", "pod p", func(p corev1.Pod) bool {
		w := waiting(p)
		return w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `configmap "late" not found`)
	})
	s.kubectl("create configmap late --from-literal=a=now")
	if got := s.ask(s.ready("p"), "/env?name=A"); got != "now" {
		t.Errorf("A is %q", got)
	}
}

// waiting is why a pod's only container does not run.
func waiting(p corev1.Pod) corev1.ContainerStateWaiting {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			return *c.State.Waiting
		}
	}
	return corev1.ContainerStateWaiting{}
}

// terminated is how a pod's only container ended, this time or the time before.
func terminated(p corev1.Pod) corev1.ContainerStateTerminated {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated != nil {
			return *c.State.Terminated
		}
		if c.LastTerminationState.Terminated != nil {
			return *c.LastTerminationState.Terminated
		}
	}
	return corev1.ContainerStateTerminated{}
}

func TestPodEnds(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("well", "restartPolicy: OnFailure", `args: [exit, "0"]`) +
		podManifest("badly", "restartPolicy: Never", `args: [exit, "42"]`) +
		podManifest("eats", "restartPolicy: Never", "args: [oom]\nresources: {limits: {memory: 16Mi}}") +
		podManifest("nothing", "restartPolicy: Never", "command: [/nope]") +
		podManifest("says", "restartPolicy: Never", `args: [write, /dev/termination-log, the reason]`) +
		podManifest("late", "restartPolicy: Never\nactiveDeadlineSeconds: 1\nterminationGracePeriodSeconds: 1", `args: [sleep]`))
	for _, c := range []struct {
		pod, reason, message string
		phase                corev1.PodPhase
		code                 int32
	}{
		{pod: "well", phase: corev1.PodSucceeded, reason: "Completed"},
		{pod: "badly", phase: corev1.PodFailed, reason: "Error", code: 42},
		{pod: "eats", phase: corev1.PodFailed, reason: "OOMKilled", code: 137},
		{pod: "nothing", phase: corev1.PodFailed, reason: "StartError", code: 128, message: "/nope"},
		{pod: "says", phase: corev1.PodSucceeded, reason: "Completed", message: "the reason"},
	} {
		got := s.ended(c.pod)
		end := terminated(got)
		if got.Status.Phase != c.phase || end.Reason != c.reason || end.ExitCode != c.code || !strings.Contains(end.Message, c.message) {
			t.Errorf("%s: phase %s, %s %d %q", c.pod, got.Status.Phase, end.Reason, end.ExitCode, end.Message)
		}
		if restarts(got) != 0 {
			t.Errorf("%s was restarted", c.pod)
		}
	}
	if p := s.ended("late"); p.Status.Reason != "DeadlineExceeded" {
		t.Errorf("late: %s", brief(p))
	}
}

func TestPodRestartsWithBackOff(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("always", "restartPolicy: Always", `args: [exit, "0"]`) + podManifest("failing", "restartPolicy: OnFailure", `args: [exit, "7"]`))
	for pod, code := range map[string]int32{"always": 0, "failing": 7} {
		p := await(s, pod+" backs off", "pod "+pod, func(p corev1.Pod) bool {
			return restarts(p) >= 1 && waiting(p).Reason == "CrashLoopBackOff"
		})
		if p.Status.Phase != corev1.PodRunning || terminated(p).ExitCode != code {
			t.Errorf("%s: %s", pod, brief(p))
		}
		s.wants(waiting(p).Message, "back-off ", "restarting failed container=c pod="+pod+"_"+s.name)
	}
	s.wants(s.kubectl("get pods"), "CrashLoopBackOff")
}

func TestPodProbes(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("http", "terminationGracePeriodSeconds: 1", `
readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 3}
`) + podManifest("exec", "terminationGracePeriodSeconds: 1", `
readinessProbe: {exec: {command: [/testimage, has, /go]}, periodSeconds: 1, failureThreshold: 1}
startupProbe: {exec: {command: [/testimage, has, /testimage]}, periodSeconds: 1}
`) + podManifest("tcp", "terminationGracePeriodSeconds: 1", `
args: [serve, ":8080"]
readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`) + podManifest("closed", "terminationGracePeriodSeconds: 1", `
readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}
`))
	p := s.ready("http")
	s.ask(p, "/write?path=/busy")
	p = await(s, "unready", "pod http", func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && !isReady(p) })
	if restarts(p) != 0 {
		t.Errorf("an unready container was restarted")
	}
	s.ask(p, "/remove?path=/busy")
	s.ready("http")
	s.ask(p, "/write?path=/ill")
	await(s, "restarted", "pod http", func(p corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	s.wants(s.kubectl("describe pod http"), "Readiness probe failed: HTTP probe failed with statuscode: 503", "Liveness probe failed: HTTP probe failed with statuscode: 503", "will be restarted")

	p = await(s, "running", "pod exec", func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && *p.Status.ContainerStatuses[0].Started
	})
	if isReady(p) {
		t.Error("the exec probe did not hold the pod back")
	}
	s.ask(p, "/write?path=/go")
	s.ready("exec")
	s.ready("tcp")
	await(s, "event", "events --field-selector involvedObject.name=closed", func(l corev1.EventList) bool {
		for _, e := range l.Items {
			if e.Reason == "Unhealthy" && strings.Contains(e.Message, "connection refused") {
				return true
			}
		}
		return false
	})
	if isReady(get[corev1.Pod](s, "pod closed")) {
		t.Error("ready although its port is closed")
	}
}

func TestPodContainers(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: first, image: IMAGE, args: [write, /shared/a, made by init], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: second, image: IMAGE, args: [show, /shared/a], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - {name: web, image: IMAGE, volumeMounts: [{name: shared, mountPath: /data, readOnly: true}]}
  - {name: other, image: IMAGE, args: [serve, ":8081"], readinessProbe: {tcpSocket: {port: 8081}}}
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  restartPolicy: Never
  initContainers: [{name: bad, image: IMAGE, args: [exit, "5"]}]
  containers: [{name: web, image: IMAGE}]
`)
	p := s.ready("p")
	if got := s.ask(p, "/read?path=/data/a"); got != "made by init" {
		t.Errorf("shared file holds %q", got)
	}
	s.logs("made by init", "p", "-c", "second")
	if got := s.ask(p, "/fetch?url=http://127.0.0.1:8081/"); got != "p" {
		t.Errorf("the other container said %q on loopback", got)
	}
	for _, c := range p.Status.InitContainerStatuses {
		if c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 {
			t.Errorf("init container %s: %v", c.Name, c.State)
		}
	}
	if p := s.ended("stuck"); p.Status.Phase != corev1.PodFailed || p.Status.ContainerStatuses[0].State.Waiting == nil {
		t.Errorf("stuck: %s", brief(p))
	}
	s.wants(s.kubectl("get pods"), "2/2", "Init:Error")
}

func TestPodVolumes(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create configmap settings --from-literal=colour=green --from-literal=size=big")
	s.kubectl("create secret generic keys --from-literal=password=hunter2")
	s.apply(podManifest("p", `
volumes:
- {name: scratch, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: settings, configMap: {name: settings, items: [{key: colour, path: deep/colour}]}}
- {name: keys, secret: {secretName: keys, defaultMode: 0400}}
- {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
`, `
volumeMounts:
- {name: scratch, mountPath: /scratch}
- {name: memory, mountPath: /memory}
- {name: settings, mountPath: /settings}
- {name: keys, mountPath: /keys}
- {name: about, mountPath: /about}
`))
	p := s.ready("p")
	for path, want := range map[string]string{"/settings/deep/colour": "green", "/keys/password": "hunter2", "/about/name": "p"} {
		if got := s.ask(p, "/read?path="+path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	s.ask(p, "/write?path=/scratch/kept&text=still+here")
	s.ask(p, "/write?path=/lost&text=x")
	s.ask(p, "/write?path=/memory/a&text=x")
	s.wants(s.ask(p, "/read?path=/proc/mounts"), " /memory tmpfs ")
	if _, err := s.try(p, "/write?path=/settings/x"); err == nil {
		t.Error("a configMap volume can be written to")
	}
	s.killContainer(p)
	p = await(s, "restarted", "pod p", func(p corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	s.poll("answer", func() (bool, error) { _, err := s.try(p, "/"); return err == nil, err })
	if got := s.ask(p, "/read?path=/scratch/kept"); got != "still here" {
		t.Errorf("after a restart emptyDir holds %q", got)
	}
	if _, err := s.try(p, "/read?path=/lost"); err == nil {
		t.Error("the container's own files outlived it")
	}
}

// try is ask for what may be refused.
func (s space) try(p corev1.Pod, path string) (string, error) {
	return shared.FetchFrom(s.Context(), p.Spec.NodeName, "http://"+p.Status.PodIP+":8080"+path)
}

func TestPodIsolation(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("default", "", "args: [serve]") + podManifest("tight", "securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456}", `
securityContext:
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
`) + podManifest("root", "", "securityContext: {runAsNonRoot: true}"))
	p := s.ready("default")
	status := s.ask(p, "/read?path=/proc/self/status")
	s.wants(status, "NoNewPrivs:\t0", "CapBnd:\t00000000a80425fb", "Uid:\t0")
	s.wants(s.ask(p, "/read?path=/proc/1/cmdline"), "/testimage\x00serve")
	if got := s.ask(p, "/read?path=/proc/timer_list"); got != "" {
		t.Errorf("/proc/timer_list is not masked: %.100q", got)
	}
	if _, err := s.try(p, "/write?path=/proc/sys/kernel/panic&text=1"); err == nil {
		t.Error("/proc/sys can be written to")
	}
	s.ask(p, "/write?path=/anything&text=x")

	p = s.ready("tight")
	s.wants(s.ask(p, "/read?path=/proc/self/status"), "Uid:\t1234\t1234", "Gid:\t2345\t2345", "Groups:\t3456", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000")
	if _, err := s.try(p, "/write?path=/anything"); err == nil {
		t.Error("a read-only root can be written to")
	}
	await(s, "refused", "pod root", func(p corev1.Pod) bool {
		return waiting(p).Reason == "CreateContainerConfigError" && strings.Contains(waiting(p).Message, "container has runAsNonRoot and image will run as root")
	})
}

// TestPodLimits reads the limits where the kernel enforces them: in the container's control group.
func TestPodLimits(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("p", "", "resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 250m, memory: 32Mi}}"))
	p := s.ready("p")
	if p.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("QoS class is %s", p.Status.QOSClass)
	}
	pid := s.pid(p)
	for _, c := range []struct{ controller, v1, v2, want string }{
		{"memory", "memory.limit_in_bytes", "memory.max", "33554432"},
		{"cpu", "cpu.cfs_quota_us", "cpu.max", "25000"},
		{"pids", "pids.max", "pids.max", "4096"},
	} {
		if got := groupFile(t, pid, c.controller, c.v1, c.v2); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s limit is %q, want %s", c.controller, got, c.want)
		}
	}
}

func TestPodStops(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("polite", "terminationGracePeriodSeconds: 60\nrestartPolicy: Never", `env: [{name: TERM_CODE, value: "9"}]`) +
		podManifest("stubborn", "terminationGracePeriodSeconds: 1", `env: [{name: TERM_CODE, value: never}]`) +
		podManifest("hooked", "terminationGracePeriodSeconds: 60", `lifecycle: {preStop: {exec: {command: [/testimage, write, /dev/termination-log, bye]}}}`))
	for _, pod := range []string{"polite", "stubborn", "hooked"} {
		s.ready(pod)
	}
	// A finalizer keeps the object, so that how the container ended can be read.
	for _, pod := range []string{"polite", "stubborn", "hooked"} {
		s.kubectl(`patch pod ` + pod + ` --type=merge -p {"metadata":{"finalizers":["e2e.skerry.dev/look"]}}`)
		s.kubectl("delete pod --wait=false " + pod)
	}
	for pod, want := range map[string]int32{"polite": 9, "stubborn": 137, "hooked": 0} {
		p := await(s, pod+" stopped", "pod "+pod, func(p corev1.Pod) bool { return terminated(p).ContainerID != "" })
		if end := terminated(p); end.ExitCode != want || pod == "hooked" && end.Message != "bye" {
			t.Errorf("%s: %d %s %q", pod, end.ExitCode, end.Reason, end.Message)
		}
		s.kubectl(`patch pod ` + pod + ` --type=merge -p {"metadata":{"finalizers":null}}`)
		s.kubectl("wait pod/" + pod + " --for=delete --timeout=90s")
	}
}

func TestPodWithoutImage(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	for pod, image := range map[string]string{
		"typo": "registry.skerry/tsetimage:1", "tag": "registry.skerry/testimage:99", "bad": "Not/An:Image:Name",
		"never": "registry.skerry/testimage:98\n    imagePullPolicy: Never",
	} {
		s.apply(strings.ReplaceAll(podManifest(pod, "", "args: [serve]"), "IMAGE", image))
	}
	for pod, want := range map[string][]string{
		"typo": {"registry.skerry/tsetimage:1", "not found"}, "tag": {"registry.skerry/testimage:99", "not found"},
	} {
		for _, reason := range []string{"ErrImagePull", "ImagePullBackOff"} {
			p := await(s, pod+" "+reason, "pod "+pod, func(p corev1.Pod) bool { return waiting(p).Reason == reason || waiting(p).Reason == "ImagePullBackOff" })
			s.wants(waiting(p).Message, want...)
			if p.Status.Phase != corev1.PodPending {
				t.Errorf("%s is %s", pod, p.Status.Phase)
			}
		}
		s.wants(s.kubectl("describe pod "+pod), "Failed", want[0])
	}
	p := await(s, "never pulled", "pod never", func(p corev1.Pod) bool { return waiting(p).Reason == "ErrImageNeverPull" })
	s.wants(waiting(p).Message, "registry.skerry/testimage:98", "not present")
	p = await(s, "bad name", "pod bad", func(p corev1.Pod) bool { return waiting(p).Reason == "InvalidImageName" })
	s.wants(waiting(p).Message, "Not/An:Image:Name")
	// The image comes, and the pod with it.
	s.pushAgain("testimage:99")
	s.ready("tag")
}

// pushAgain gives the test image another name.
func (s space) pushAgain(name string) {
	s.Helper()
	r, err := newRegistry(shared, s.TempDir())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := r.crane(s.Context(), "cp", r.host+"/testimage:1", r.host+"/"+name); err != nil {
		s.Fatal(err)
	}
}
