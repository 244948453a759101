package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

// pinned is a pod on a node of our choice.
func pinned(name, node string) string {
	return podManifest(name, "terminationGracePeriodSeconds: 1\nnodeSelector: {kubernetes.io/hostname: "+node+"}", `
readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
`)
}

func TestPodNetwork(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(pinned("a", "n1") + pinned("same", "n1") + pinned("other", "n2"))
	a, same, other := s.ready("a"), s.ready("same"), s.ready("other")
	for _, to := range []corev1.Pod{a, same, other} {
		url := "http://" + to.Status.PodIP + ":8080/"
		if got := s.ask(a, "/fetch?url="+url); got != to.Name {
			t.Errorf("from pod a to %s: %q", to.Name, got)
		}
		for _, n := range shared.State0.Nodes {
			if got, err := shared.FetchFrom(t.Context(), n.Name, url); err != nil || got != to.Name {
				t.Errorf("from node %s to pod %s: %q %v", n.Name, to.Name, got, err)
			}
		}
		s.fromHere(to, url)
	}
	// A node's own address, from a pod: the node is reached, and says that nobody listens there.
	if got := s.ask(a, "/fetch?url=http://"+other.Status.HostIP+":1/"); !strings.Contains(got, "connection refused") {
		t.Errorf("port 1 of node n2: %q", got)
	}
}

// fromHere reaches a pod from this machine itself. All local clusters use the same addresses for pods, and the last that
// came has this machine's routes to them: when that is another one, there is nothing to see.
func (s space) fromHere(to corev1.Pod, url string) {
	s.Helper()
	err := cluster.Poll(s.Context(), limit, "answer of pod "+to.Name+" to this machine", func() (bool, error) {
		routes, err := netlink.RouteGet(net.ParseIP(to.Status.PodIP))
		if err != nil || len(routes) == 0 {
			return false, fmt.Errorf("no route: %w", err)
		}
		if via := routes[0].Gw; via.String() != to.Status.HostIP && localNodes.Contains(via) {
			s.Logf("not asked from this machine: %s is routed to another local cluster's node %s", to.Status.PodIP, via)
			return true, nil
		}
		got, err := cluster.FetchIn(s.Context(), 0, url)
		return err == nil && got == to.Name, err
	})
	if err != nil {
		s.Error(err)
	}
}

// localNodes are the addresses that `skerry up` gives to nodes.
var localNodes = net.IPNet{IP: net.IPv4(10, 41, 0, 0), Mask: net.CIDRMask(16, 32)}

const service = `
apiVersion: v1
kind: Service
metadata: {name: SVC}
spec: {selector: {group: SVC}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
`

// TestService: a virtual address spreads connections over the pods that are ready, from pods and nodes alike, and refuses
// at once when there is none.
func TestService(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(strings.ReplaceAll(service, "SVC", "svc") + pinned("a", "n1") + pinned("b", "n2") + pinned("c", "n3"))
	url := s.serviceURL("svc")
	s.refusedFrom("n1", url)
	for _, name := range []string{"a", "b", "c"} {
		s.ready(name)
		s.kubectl("label pod " + name + " group=svc")
	}
	a := get[corev1.Pod](s, "pod a")
	for _, n := range shared.State0.Nodes {
		s.answers(n.Name, func() (string, error) { return shared.FetchFrom(t.Context(), n.Name, url) }, "a", "b", "c")
	}
	s.answers("pod a", func() (string, error) { return s.try(a, "/fetch?url="+url) }, "a", "b", "c")

	b := get[corev1.Pod](s, "pod b")
	s.ask(b, "/write?path=/busy")
	await(s, "b unready", "pod b", func(p corev1.Pod) bool { return !isReady(p) })
	s.without("b", url)
	s.ask(b, "/remove?path=/busy")
	s.answers("n1", func() (string, error) { return shared.FetchFrom(t.Context(), "n1", url) }, "a", "b", "c")

	s.kubectl("delete pod a b c --now")
	for _, n := range shared.State0.Nodes {
		s.refusedFrom(n.Name, url)
	}
	s.kubectl("delete service svc")
}

// answers asks until each of the names, and no other, has answered.
func (s space) answers(from string, ask func() (string, error), names ...string) {
	s.Helper()
	seen := map[string]int{}
	s.poll(fmt.Sprintf("answers of %v to %s", names, from), func() (bool, error) {
		got, err := ask()
		if err != nil {
			return false, err
		}
		seen[got]++
		for _, name := range names {
			if seen[name] == 0 {
				return false, fmt.Errorf("answers so far: %v", seen)
			}
		}
		return true, nil
	})
}

// without waits until a pod gets no connections any more: none of thirty in a row.
func (s space) without(name, url string) {
	s.Helper()
	s.poll(name+" out of the service", func() (bool, error) {
		for range 30 {
			got, err := shared.FetchFrom(s.Context(), "n1", url)
			if err != nil {
				return false, cluster.Permanent(err)
			}
			if got == name {
				return false, fmt.Errorf("%s still answers", name)
			}
		}
		return true, nil
	})
}

func (s space) refusedFrom(node, url string) {
	s.Helper()
	s.poll("refusal by "+url, func() (bool, error) {
		got, err := shared.FetchFrom(s.Context(), node, url)
		if err == nil {
			return false, fmt.Errorf("answered %q", got)
		}
		if strings.Contains(err.Error(), "connection refused") {
			return true, nil
		}
		return false, err
	})
}

// TestServiceAffinity: session affinity keeps a client with one pod.
func TestServiceAffinity(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {group: sticky}, sessionAffinity: ClientIP, ports: [{name: http, port: 80, targetPort: 8080}]}
---
` + pinned("a", "n1") + pinned("b", "n2"))
	for _, name := range []string{"a", "b"} {
		s.ready(name)
		s.kubectl("label pod " + name + " group=sticky")
	}
	url := s.serviceURL("sticky")
	var first string
	s.poll("first answer", func() (ok bool, err error) {
		first, err = shared.FetchFrom(t.Context(), "n3", url)
		return err == nil, err
	})
	for range 20 {
		if got, err := shared.FetchFrom(t.Context(), "n3", url); err != nil || got != first {
			t.Errorf("answered by %q after %q (%v)", got, first, err)
		}
	}
}

// TestHostPort: a pod's port on its node is reached from elsewhere, and is closed when the pod is gone.
func TestHostPort(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("door", "nodeSelector: {kubernetes.io/hostname: n1}\nterminationGracePeriodSeconds: 1", "ports: [{containerPort: 8080, hostPort: 8765}]"))
	door := s.ready("door")
	url := "http://" + door.Status.HostIP + ":8765/"
	for _, n := range shared.State0.Nodes {
		s.answers(n.Name, func() (string, error) { return shared.FetchFrom(t.Context(), n.Name, url) }, "door")
	}
	s.kubectl("delete pod door")
	s.refusedFrom("n2", url)
}
