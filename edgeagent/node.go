package edgeagent

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/messaging"
)

// node is what all workers of a node share. Its fields do not change after New but for the facts.
type node struct {
	log       *slog.Logger
	keeper    Keeper
	sandboxes Sandboxes
	images    Images
	volumes   Volumes
	users     Users
	noUsers   error          // why this node cannot make user namespaces; nil if it can
	devices   *device.Ledger // nil in tests that are about other things
	logs      *logs.Folder
	report    Reporter
	store     Store
	curve     nkeys.KeyPair // opens what is sealed to this node
	cgroups   string        // group below which pods' groups are
	pids      int64
	// unsafeSysctls are what pods may have besides the safe ones.
	unsafeSysctls []string
	// bounds of a container's logs; zero for the keeper's
	logMaxBytes int64
	logMaxFiles int

	now atomic.Pointer[facts]
	// contact is the boot time, in nanoseconds, when there was contact with the coordinator last.
	contact atomic.Int64

	table  atomic.Pointer[messaging.ServiceTable]
	first  []messaging.ServicePort // services of every cluster, known before the first table
	ports  *hostPorts
	pulls  gate // image pulls at once
	setup  gate // sandboxes and starts at once
	events rare
	claims portClaims
	// pressures are what the node is short of; nil until it was measured.
	pressures atomic.Pointer[[]corev1.NodeConditionType]
}

// facts about the node that change with its hardware and addresses.
type facts struct {
	HostIPs     []string
	MemoryBytes int64
	Allocatable corev1.ResourceList
}

func (n *node) facts() facts {
	if f := n.now.Load(); f != nil {
		return *f
	}
	return facts{}
}

func (n *node) services() []messaging.ServicePort {
	if t := n.table.Load(); t != nil {
		return t.Services
	}
	return n.first
}

// apiService is the kubernetes Service, which has the first address of the service network in every cluster.
func apiService(services netip.Prefix) messaging.ServicePort {
	return messaging.ServicePort{
		Namespace: "default", Name: "kubernetes", Protocol: "TCP", ClusterIP: services.Masked().Addr().Next().String(), Port: 443, PortName: "https",
	}
}

// errNoSender: an assignment with sealed values must say who sealed them.
var errNoSender = errors.New("assignment does not say who sealed its secrets")

// opener returns the function that opens what sender sealed to this node.
func (n *node) opener(sender string) func([]byte) ([]byte, error) {
	return func(sealed []byte) ([]byte, error) {
		if sender == "" {
			return nil, errNoSender
		}
		return n.curve.Open(sealed, sender)
	}
}

// gate bounds how many may be inside at once.
type gate chan struct{}

func (g gate) enter(done <-chan struct{}) bool {
	select {
	case g <- struct{}{}:
		return true
	case <-done:
		return false
	}
}

func (g gate) leave() { <-g }

// latest hands values from one goroutine to another that is only interested in the newest. It has capacity 1.
type latest[T any] chan T

// put never waits.
func (l latest[T]) put(v T) {
	for {
		select {
		case l <- v:
			return
		default:
		}
		select {
		case <-l: // an older one that nobody has taken
		default:
		}
	}
}

// rare lets one through per interval for each key. It keeps a failing probe from filling the event log.
type rare struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const rareEvery = 5 * time.Minute

func (r *rare) allow(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) > 4096 {
		r.last = map[string]time.Time{}
	}
	if at, ok := r.last[key]; ok && now.Sub(at) < rareEvery {
		return false
	}
	r.last[key] = now
	return true
}
