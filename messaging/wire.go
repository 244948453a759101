package messaging

import (
	"strconv"
	"time"
)

// ProtocolVersion is what an agent and a coordinator must share. A coordinator refuses an agent of another version in
// the answer to register, with words that say which side is older.
const ProtocolVersion = 1

// Heartbeat is a node's sign of life (JSON).
type Heartbeat struct {
	Boot     string `json:"boot"`     // kernel boot id
	Seq      uint64 `json:"seq"`      // grows by one; restarts at 1 with the agent
	Manifest uint64 `json:"manifest"` // KV_assign sequence of the manifest that is checkpointed; 0 for none
	Services uint64 `json:"services"` // KV_assign sequence of the service table in force; 0 for none
	Load     Load   `json:"load"`
}

// Load is a node's live usage.
type Load struct {
	CPUMillis        int64 `json:"cpuMillis"`   // CPU in use, thousandths of a core
	MemoryBytes      int64 `json:"memoryBytes"` // memory in use: total minus available
	MemoryTotalBytes int64 `json:"memoryTotalBytes"`
	DiskBytes        int64 `json:"diskBytes"` // used on the file system of the state folder
	DiskTotalBytes   int64 `json:"diskTotalBytes"`
	Pods             int   `json:"pods"` // running
}

// Manifest is the complete set of pods that a node should run (JSON, signed). A node acts on it only if Epoch is not
// older than the one in its checkpoint; what it lists by revision the node reads from PodPart keys.
type Manifest struct {
	Cluster    string   `json:"cluster"`    // cluster id; another cluster's manifest is refused
	Epoch      uint64   `json:"epoch"`      // fencing token of the coordinator that wrote it
	Generation uint64   `json:"generation"` // grows with each manifest of this node within an epoch
	Pods       []PodRef `json:"pods"`
	// Discard names the persistent volumes whose data the node is to remove, sorted; it answers with a VolumeReport for
	// each. A volume that is not named here is kept, whether any pod uses it or not.
	Discard []string `json:"discard,omitempty"`
}

// PodRef points at one pod of a manifest.
type PodRef struct {
	UID      string `json:"uid"`
	Revision uint64 `json:"revision"` // KV_assign sequence of its PodPart key
}

// Assignment is one pod with everything resolved, so that the node needs nothing else to run it (JSON, signed).
type Assignment struct {
	Pod        []byte                       `json:"pod"`                  // v1.Pod in protobuf, no envelope
	ConfigMaps map[string]map[string][]byte `json:"configMaps,omitempty"` // name -> key -> value, what the pod refers to
	Secrets    map[string]map[string][]byte `json:"secrets,omitempty"`    // as ConfigMaps; every value sealed to the node
	SealedBy   string                       `json:"sealedBy,omitempty"`   // public curve key (nkeys "X...") that sealed them
	Claims     map[string]Claim             `json:"claims,omitempty"`     // name -> volume of the PersistentVolumeClaims that the pod refers to; without those that have none
	Digest     string                       `json:"digest"`               // keyed hash of the content before sealing: equal means unchanged
}

// Claim is the volume behind a PersistentVolumeClaim: one that the node keeps itself under a name, or a path that somebody
// else looks after.
type Claim struct {
	Volume string `json:"volume,omitempty"` // name of the PersistentVolume; the node chooses where it is
	Path   string `json:"path,omitempty"`   // absolute; empty for a Volume
	Type   string `json:"type,omitempty"`   // a HostPathType that says what must be at Path
}

// TokenSecret is the name under which Assignment.Secrets has, at the key TokenKey, the token that a projected volume asks
// for: an audience, empty for the API's, and a lifetime. No Secret can have such a name.
func TokenSecret(audience string, seconds int64) string {
	return "token/" + strconv.FormatInt(seconds, 10) + "/" + audience
}

// TokenKey is the one key of a TokenSecret.
const TokenKey = "token"

// ServiceTable is what every node's service proxy and DNS work from (JSON, signed, at AssignKey(Broadcast, ServicesPart)).
type ServiceTable struct {
	Epoch       uint64        `json:"epoch"`
	Generation  uint64        `json:"generation"`
	ServiceCIDR string        `json:"serviceCIDR"`
	PodCIDR     string        `json:"podCIDR"` // of the whole cluster
	Services    []ServicePort `json:"services"`
	Names       []ServiceName `json:"names,omitempty"`
	Nodes       []NodeRoute   `json:"nodes"`
}

// ServicePort is one port of one service with its ready endpoints.
type ServicePort struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Protocol  string   `json:"protocol"` // TCP or UDP
	ClusterIP string   `json:"clusterIP"`
	Port      uint16   `json:"port"`
	PortName  string   `json:"portName,omitempty"`
	NodePort  uint16   `json:"nodePort,omitempty"`  // the port's number on every node; 0 when it has none
	Local     bool     `json:"local,omitempty"`     // through NodePort and External a node leads to its own endpoints only
	Affinity  bool     `json:"affinity,omitempty"`  // ClientIP session affinity
	Endpoints []string `json:"endpoints,omitempty"` // ip:port, ready only, sorted
	External  []string `json:"external,omitempty"`  // further addresses that lead here when they come to a node
	Own       bool     `json:"own,omitempty"`       // through ClusterIP, too, a node leads to its own endpoints only
}

// IsAPI says whether this is the cluster's own API, to which each node leads its pods over its own connection.
func (p ServicePort) IsAPI() bool {
	return p.Namespace == "default" && p.Name == "kubernetes" && (p.Protocol == "TCP" || p.Protocol == "")
}

// ServiceName is a service without a virtual address, which only DNS knows: headless, or a name for another name.
type ServiceName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	External  string `json:"external,omitempty"` // what an ExternalName service stands for; then there are no hosts
	Hosts     []Host `json:"hosts,omitempty"`    // the ready endpoints of a headless one, sorted by address
}

// Host is an endpoint of a headless service.
type Host struct {
	IP    string     `json:"ip"`
	Name  string     `json:"name,omitempty"`  // below the service's own, one DNS label; empty when it has none
	Ports []HostPort `json:"ports,omitempty"` // those that have names
}

// HostPort is a port of a Host.
type HostPort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // TCP, UDP or SCTP
	Port     uint16 `json:"port"`
}

// NodeRoute says where a node's pods are.
type NodeRoute struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	PodCIDR string `json:"podCIDR"`
}

// PodReport is a pod's status as its node sees it (JSON, UP stream). Latest wins per UID; Boot and Seq order reports.
type PodReport struct {
	Boot      string `json:"boot"`
	Seq       uint64 `json:"seq"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Status    []byte `json:"status"`         // v1.PodStatus in protobuf
	Gone      bool   `json:"gone,omitempty"` // everything of the pod is stopped and removed; its object may be deleted
}

// NodeReport is a node's capacity, conditions, addresses and labels as it sees them (JSON, UP stream).
type NodeReport struct {
	Boot   string            `json:"boot"`
	Seq    uint64            `json:"seq"`
	Labels map[string]string `json:"labels"`
	Status []byte            `json:"status"` // v1.NodeStatus in protobuf
}

// InventoryReport is a node's hardware (JSON, UP stream). Inventory is an api.Inventory in JSON.
type InventoryReport struct {
	Boot      string `json:"boot"`
	Seq       uint64 `json:"seq"`
	Inventory []byte `json:"inventory"`
}

// VolumeReport says that nothing is left of a volume's data (JSON, UP stream).
type VolumeReport struct {
	Boot   string `json:"boot"`
	Seq    uint64 `json:"seq"`
	Volume string `json:"volume"`
}

// EventReport is an event that a node wants recorded (JSON, UP stream).
type EventReport struct {
	Boot      string    `json:"boot"`
	Seq       uint64    `json:"seq"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	UID       string    `json:"uid"`
	Container string    `json:"container,omitempty"`
	Type      string    `json:"type"` // Normal or Warning
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Time      time.Time `json:"time"`
}

// RegisterRequest is the first thing an agent says on each connection.
type RegisterRequest struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the agent, for people
	Boot     string `json:"boot"`
	SealKey  string `json:"sealKey"` // public curve key
	Address  string `json:"address"` // where other nodes reach this one
}

// RegisterReply answers it. Error is set when the agent may not go on.
type RegisterReply struct {
	Error      string        `json:"error,omitempty"`
	Cluster    string        `json:"cluster"`
	Epoch      uint64        `json:"epoch"`
	SigningKey string        `json:"signingKey"` // public nkey that signs manifests, assignments and commands
	PodCIDR    string        `json:"podCIDR"`    // this node's; empty until one is allocated
	Heartbeat  time.Duration `json:"heartbeat"`
}

// SignatureHeader carries Sign's result on manifests, assignments, service tables and commands.
const SignatureHeader = "Skerry-Signature"

// Kinds of streams that nodes open to the coordinator, each with the same permission: a node opens its own only.
const (
	StreamRegistry = "registry" // HTTP to the image registry
	StreamAPI      = "api"      // TLS to the Kubernetes API, whose one end is in a pod
)

// OpenRequest asks the other side to open a byte stream: the coordinator a node (CommandSubject "open", signed) or a
// node the coordinator (NodeAPISubject "dial").
type OpenRequest struct {
	Session string            `json:"session"` // random; names the stream's two subjects
	Kind    string            `json:"kind"`    // to a node: logs, exec, attach, portforward, page; to the coordinator: registry, api
	Params  map[string]string `json:"params,omitempty"`
	Expires time.Time         `json:"expires"` // by the sender's clock; only a hint, the signature covers it
}

// OpenReply answers it; an empty Error means that the stream is open.
type OpenReply struct {
	Error string `json:"error,omitempty"`
}
