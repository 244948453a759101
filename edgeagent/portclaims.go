package edgeagent

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/pod"
)

// portsTaken is why a pod is refused whose ports another has, in the kubelet's words (pkg/kubelet/lifecycle/predicate.go).
const (
	portsTakenReason  = "NodePorts"
	portsTakenMessage = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
)

// claimedPort is a port of the machine that a pod's container is to have.
type claimedPort struct {
	protocol corev1.Protocol
	address  string // empty for all of the machine's
	number   int32
}

func (p claimedPort) collides(q claimedPort) bool {
	return p.protocol == q.protocol && p.number == q.number && (p.address == q.address || p.address == "" || q.address == "")
}

// claimsOf are the ports that the pod takes.
func claimsOf(p *corev1.Pod) (ports []claimedPort) {
	for _, port := range machinePorts(p) {
		ports = append(ports, claimedPort{protocol: port.Protocol, address: port.HostIP, number: port.HostPort})
	}
	return ports
}

// portClaims knows which pod has which ports of the machine. The scheduler gives none away twice, but who names a node in
// a pod does not ask it. The zero value is ready; all methods may be called concurrently.
type portClaims struct {
	mu    sync.Mutex
	owner map[string][]claimedPort // by UID
}

// take gives the pod its ports and says whether it has them: not, when another has one of them and they are not its own
// already. To take them again changes nothing.
func (c *portClaims) take(uid string, want []claimedPort, own bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !own && c.taken(uid, want) {
		return false
	}
	if len(want) > 0 {
		if c.owner == nil {
			c.owner = map[string][]claimedPort{}
		}
		c.owner[uid] = want
	}
	return true
}

func (c *portClaims) taken(uid string, want []claimedPort) bool {
	for other, ports := range c.owner {
		if other != uid && slices.ContainsFunc(ports, func(p claimedPort) bool { return slices.ContainsFunc(want, p.collides) }) {
			return true
		}
	}
	return false
}

// release lets others have the pod's ports. None is no error.
func (c *portClaims) release(uid string) {
	c.releaseUnless(func(other string) bool { return other != uid })
}

// releaseUnless lets others have the ports of all pods but those that are to keep theirs.
func (c *portClaims) releaseUnless(keeps func(uid string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.owner, func(uid string, _ []claimedPort) bool { return !keeps(uid) })
}

// claimPorts takes the ports of the pods that an earlier agent had, before any of them begins anew: a newcomer must not find a port free
// because its owner is not back yet. What runs, or has run, comes before what never did.
func (l *loop) claimPorts() {
	for _, ran := range []bool{true, false} {
		for uid, want := range l.desired.Pods {
			status := lastStatus(l.memories[uid])
			if finished(status.Phase) || (status.Phase != "" || len(l.found[uid]) > 0) != ran {
				continue
			}
			l.node.claims.take(uid, claimsOf(want.Pod), ran) // a pod that gets none is refused when it begins
		}
	}
}

// releasePorts: who is told to go without anybody waiting for it must not keep the next one away.
func (l *loop) releasePorts() {
	if l.desired.Manifest.Revision == 0 || !l.started {
		return
	}
	l.node.claims.releaseUnless(func(uid string) bool {
		_, wanted := l.desired.Pods[uid]
		return wanted
	})
}

// takePorts takes the ports of a pod that may still run. A new one that finds a port taken is refused; one that was here
// before has its ports already, whoever thinks he has them too.
func (w *worker) takePorts(isNew bool) {
	if finished(w.obs.Previous.Phase) || w.obs.Ruling != nil {
		return
	}
	own := !isNew || w.want.Pod.DeletionTimestamp != nil
	if !w.node.claims.take(w.uid, claimsOf(w.want.Pod), own) {
		w.rule(pod.Ruling{Reason: portsTakenReason, Message: portsTakenMessage})
	}
}
