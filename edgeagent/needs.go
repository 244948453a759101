package edgeagent

import (
	"context"
	"os"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/edgeagent/volume"
	"skerry.dev/skerry/messaging"
)

// What the agent needs of its neighbours. The real ones are wired in New; tests bring their own.

// Keeper starts, stops and lists containers; see keeper.Client.
type Keeper interface {
	Create(ctx context.Context, spec keeper.Spec) error
	Start(ctx context.Context, id string) error
	Kill(ctx context.Context, id string, sig syscall.Signal, all bool) error
	Delete(ctx context.Context, id string) error
	List(ctx context.Context) ([]keeper.Container, error)
	Exec(ctx context.Context, id string, spec keeper.ExecSpec) (keeper.ExecResult, error)
	Exits(ctx context.Context, fromSeq uint64, f func(keeper.Exit) error) error
	// Stats reads the cgroups of the running containers.
	Stats(ctx context.Context, ids ...string) ([]keeper.Stats, error)
	// Deadline has the keeper kill the container at that boot time, unless it is moved on before.
	Deadline(ctx context.Context, id string, at time.Duration) error
	// ExecStream starts a process on the given streams; terminal is its pseudo-terminal if the spec asked for one.
	ExecStream(ctx context.Context, id string, spec keeper.ExecSpec, streams keeper.Streams) (s Session, terminal *os.File, err error)
	// Attach connects the streams to a running container's own, and Resize tells its terminal its size.
	Attach(ctx context.Context, id string, streams keeper.Streams) (Session, error)
	Resize(ctx context.Context, id string, width, height uint16) error
}

// Session is a process in a container that somebody talks to, or an attachment to the container; see keeper.Session.
type Session interface {
	Wait(ctx context.Context) (int, error)
	Close() error
}

// Sandboxes makes the namespaces and addresses of pods; see network.Network. Both calls may be repeated.
type Sandboxes interface {
	CreateSandbox(ctx context.Context, uid string, o network.SandboxOptions) (network.Sandbox, error)
	RemoveSandbox(ctx context.Context, uid string) error
	List() ([]string, error)
}

// Users gives pods their ranges of user IDs; see idrange.Ledger.
type Users interface {
	Claim(uid string) (idrange.Range, error)
	Release(uid string) error
	Owners() ([]string, error)
}

// Images pulls images and mounts their file systems.
type Images interface {
	// Pull makes sure that the image is on the node and returns its configuration. secrets are Docker configurations. An error may carry a reason for the
	// pod's status (*pod.Failure); any other is ErrImagePull.
	Pull(ctx context.Context, ref string, policy corev1.PullPolicy, secrets [][]byte) (containerspec.Image, error)
	// Mount returns the writable root file system of an instance of a pulled image, making it if there is none. Its files belong to whom
	// the image says, as seen from users.
	Mount(ctx context.Context, id, imageID string, users image.Users) (string, error)
	// Unmount removes the root file system of an instance. None is no error.
	Unmount(ctx context.Context, id string) error
	// Mounted names the instances that have a root file system.
	Mounted() ([]string, error)
	// List returns what is on the node, for the node's status.
	List() ([]corev1.ContainerImage, error)
}

// Volumes makes pods' volumes; see volume.Volumes.
type Volumes interface {
	Prepare(refs resolve.Refs) error
	Attach(p *corev1.Pod, c *corev1.Container, env []string) ([]volume.Attachment, error)
	Etc(p *corev1.Pod, ips []string) ([]volume.Attachment, error)
	Termination(p *corev1.Pod, c *corev1.Container, attempt int32) (volume.Attachment, error)
	LastWords(uid, container string, attempt int32) (string, error)
	// DeviceNode makes a node of the device at path for a container's user, in the container's numbers, and returns where it is.
	DeviceNode(uid, container, path string, user, group int) (string, error)
	Remove(uid string) error
	Pods() ([]string, error)
	// Discard removes a persistent volume; volume.ErrInUse says that a pod has it.
	Discard(name string) error
}

// Reporter takes reports for the coordinator; see uplink.Uplink.
type Reporter interface {
	Pod(r messaging.PodReport) error
	Event(r messaging.EventReport) error
	Volume(r messaging.VolumeReport) error
	NodeStatus(r messaging.NodeReport) error
	Inventory(inventory []byte) error
}

// Store is the checkpoint; see checkpoint.Store.
type Store interface {
	SaveIdentity(id checkpoint.Identity) error
	SaveDesired(manifest messaging.Assigned, pods map[string]messaging.Assigned) error
	SaveServices(a messaging.Assigned) error
	SaveMemory(uid string, m checkpoint.Memory) error
	Forget(uid string) error
}

// Tables puts a service table into force; see proxy.Proxy.
type Tables interface {
	Apply(ctx context.Context, table messaging.ServiceTable) error
	Check(ctx context.Context) error
}
