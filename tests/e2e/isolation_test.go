package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// uidsOf are the user IDs of a process, as this machine sees them.
func uidsOf(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if after, ok := strings.CutPrefix(line, "Uid:\t"); ok {
			return strings.TrimSpace(after)
		}
	}
	t.Fatalf("process %d has no user:\n%s", pid, status)
	return ""
}

// TestPodUsers: root of an ordinary pod is nobody on the node, and finds its files and volumes all the same. Who asks for the node's users
// gets them.
func TestPodUsers(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create secret generic keys --from-literal=password=hunter2")
	const volumes = `
volumes:
- {name: keys, secret: {secretName: keys, defaultMode: 0400}}
- {name: scratch, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory}}
`
	const mounts = `
volumeMounts:
- {name: keys, mountPath: /keys}
- {name: scratch, mountPath: /scratch}
- {name: memory, mountPath: /memory, subPath: part}
`
	s.apply(podManifest("own", volumes, mounts) + podManifest("host", "hostUsers: true\n"+volumes, mounts) +
		podManifest("group", "securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}\n"+volumes, mounts) +
		podManifest("asks", "hostUsers: false\n", ""))
	for _, node := range get[corev1.NodeList](s, "nodes").Items {
		if h := node.Status.RuntimeHandlers; len(h) != 1 || !*h[0].Features.UserNamespaces {
			t.Fatalf("%s cannot make user namespaces, its log says why: %+v", node.Name, h)
		}
	}
	firsts := map[string]bool{}
	for _, name := range []string{"own", "group", "asks", "host"} {
		p := s.ready(name)
		inside, outside := s.ask(p, "/read?path=/proc/self/status"), uidsOf(t, s.pid(p))
		want := "Uid:\t0\t"
		if name == "group" {
			want = "Uid:\t1000\t"
		}
		s.wants(inside, want)
		isNode := strings.HasPrefix(outside, "0\t")
		if isNode != (name == "host") || firsts[outside] {
			t.Errorf("%s is %s outside", name, outside)
		}
		firsts[outside] = true
		if name == "asks" {
			continue
		}
		if got := s.ask(p, "/read?path=/keys/password"); got != "hunter2" {
			t.Errorf("%s: secret is %q", name, got)
		}
		for _, path := range []string{"/scratch/x", "/memory/x", "/dev/shm/x"} {
			s.ask(p, "/write?text=x&path="+path)
		}
	}
	p := get[corev1.Pod](s, "pod own")
	s.wants(s.ask(p, "/read?path=/proc/self/uid_map"), "65536")
	s.ask(p, "/write?text=x&path=/anything")
}

// TestPodSeccomp: every container has the default filter unless it asks for another.
func TestPodSeccomp(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("default", "", "") + podManifest("open", "securityContext: {seccompProfile: {type: Unconfined}}", "") +
		podManifest("asks", "", "securityContext: {seccompProfile: {type: RuntimeDefault}, allowPrivilegeEscalation: true}") +
		podManifest("missing", "", "securityContext: {seccompProfile: {type: Localhost, localhostProfile: site/none.json}}"))
	for name, want := range map[string]string{"default": "Seccomp:\t2", "asks": "Seccomp:\t2", "open": "Seccomp:\t0"} {
		s.wants(s.ask(s.ready(name), "/read?path=/proc/self/status"), want)
	}
	await(s, "refused", "pod missing", func(p corev1.Pod) bool {
		return waiting(p).Reason == "CreateContainerError" && strings.Contains(waiting(p).Message, "site/none.json")
	})
}
