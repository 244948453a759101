package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/network/netns"
)

// SandboxOptions say what a pod wants of its sandbox.
type SandboxOptions struct {
	Hostname    string            // of the UTS namespace; ignored on the host's network
	HostNetwork bool              // use the node's network and UTS namespaces
	HostIPC     bool              // use the node's IPC namespace
	Sysctls     map[string]string // name (dots) -> value; only those of a network or IPC namespace
	// IDs are the pod's user and group IDs outside; with them it gets a user namespace, to which the others belong. Not on the host's network.
	IDs idrange.Range
	// IngressBits and EgressBits limit the pod's traffic in bits per second; 0 is no limit.
	IngressBits, EgressBits uint64
}

// Sandbox is what the containers of a pod share.
type Sandbox struct {
	// Paths of the namespaces to join. Empty is the node's own.
	NetNS, IPCNS, UTSNS, UserNS string
	IP                          netip.Addr // the pod's address; the node's on the host's network
	// IDs are those of UserNS.
	IDs idrange.Range
}

// record is the last thing written of a sandbox: with it, the sandbox is complete.
type record struct {
	Options SandboxOptions `json:"options"`
	IP      netip.Addr     `json:"ip"`
}

var uidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// CreateSandbox makes the pod's sandbox. If the pod has a complete one, which it keeps when the agent dies, that one is
// returned, with its link mended if need be; the options are then those it was made with. After an error call again, or
// RemoveSandbox. Errors are ErrNoPodCIDR, ErrAddressesUsedUp, or the kernel's, with what was tried.
func (n *Network) CreateSandbox(ctx context.Context, uid string, o SandboxOptions) (Sandbox, error) {
	if !uidPattern.MatchString(uid) {
		return Sandbox{}, fmt.Errorf("pod uid %q is not a file name", uid)
	}
	box, complete, err := n.adopt(uid)
	if err == nil && !complete {
		box, err = n.build(ctx, uid, o)
	}
	if err != nil {
		return Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", uid, err)
	}
	return box, nil
}

// adopt returns the sandbox if it is complete.
func (n *Network) adopt(uid string) (box Sandbox, complete bool, err error) {
	r, err := n.readRecord(uid)
	if err != nil {
		return Sandbox{}, false, err
	}
	if r == nil || !n.mounted(uid, r.Options) {
		return Sandbox{}, false, nil
	}
	box = n.sandbox(uid, *r)
	if r.Options.HostNetwork {
		return box, true, nil
	}
	err = netns.Do(box.NetNS, func() error { return n.plug(uid, r.IP, r.Options) })
	return box, true, err
}

// build makes a sandbox from nothing, clearing away what an interrupted attempt left.
func (n *Network) build(ctx context.Context, uid string, o SandboxOptions) (Sandbox, error) {
	if err := n.remove(uid); err != nil {
		return Sandbox{}, fmt.Errorf("clear an earlier attempt: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return Sandbox{}, err
	}
	if err := n.did("make folder", func() error { return os.MkdirAll(n.nsDir(uid), 0o700) }); err != nil {
		return Sandbox{}, err
	}
	r := record{Options: o, IP: n.options.NodeAddress}
	if !o.HostNetwork {
		err := n.did("allocate", func() (err error) {
			r.IP, err = n.allocate(uid)
			return err
		})
		if err != nil {
			return Sandbox{}, err
		}
	}
	if err := n.makeNamespaces(uid, r); err != nil {
		return Sandbox{}, err
	}
	if err := n.did("write record", func() error { return n.writeRecord(uid, r) }); err != nil {
		return Sandbox{}, err
	}
	return n.sandbox(uid, r), nil
}

// makeNamespaces configures fresh namespaces before it pins them by mounts: until then a failure leaves nothing.
func (n *Network) makeNamespaces(uid string, r record) error {
	flags, kinds := namespaces(r.Options)
	if len(kinds) == 0 {
		return nil
	}
	if ids := r.Options.IDs; !ids.IsZero() {
		return netns.Owned(flags, ids.First, idrange.Count, func(user string) error {
			if err := n.configure(uid, r, kinds); err != nil {
				return err
			}
			return n.did("mount user", func() error { return pin(user, n.nsPath(uid, "user")) })
		})
	}
	return netns.Unshared(flags, func() error { return n.configure(uid, r, kinds) })
}

// configure runs in the fresh namespaces of these kinds.
func (n *Network) configure(uid string, r record, kinds []string) error {
	if slices.Contains(kinds, "uts") && r.Options.Hostname != "" {
		if err := unix.Sethostname([]byte(r.Options.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", r.Options.Hostname, err)
		}
	}
	if slices.Contains(kinds, "net") {
		if err := n.did("plug", func() error { return n.plug(uid, r.IP, r.Options) }); err != nil {
			return err
		}
		if err := applySysctls(r.Options.Sysctls); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		if err := n.did("mount "+kind, func() error { return pin(netns.Self(kind), n.nsPath(uid, kind)) }); err != nil {
			return err
		}
	}
	return nil
}

// namespaces are the ones of its own that a pod gets.
func namespaces(o SandboxOptions) (flags int, kinds []string) {
	if !o.HostNetwork {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		kinds = append(kinds, "net", "uts")
	}
	if !o.HostIPC {
		flags |= unix.CLONE_NEWIPC
		kinds = append(kinds, "ipc")
	}
	return flags, kinds
}

// pin keeps a namespace alive under a path.
func pin(source, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, path, err)
	}
	return nil
}

// RemoveSandbox lets go of the pod's namespaces and address. The pod's processes must be gone: the kernel keeps what they
// use. Removing what is not there is no error.
func (n *Network) RemoveSandbox(_ context.Context, uid string) error {
	if !uidPattern.MatchString(uid) {
		return fmt.Errorf("pod uid %q is not a file name", uid)
	}
	if err := n.remove(uid); err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	return nil
}

// remove undoes build from its end to its beginning. The record goes first, so that a half removed sandbox is never
// taken for a complete one; the address goes last, when nothing uses it any more.
func (n *Network) remove(uid string) error {
	if err := n.did("remove record", func() error { return removeIfThere(n.recordPath(uid)) }); err != nil {
		return err
	}
	for _, kind := range []string{"net", "uts", "ipc", "user"} {
		if err := n.did("unmount "+kind, func() error { return unpin(n.nsPath(uid, kind)) }); err != nil {
			return err
		}
	}
	if err := n.did("release", func() error { return n.release(uid) }); err != nil {
		return err
	}
	if err := n.did("remove folder", func() error { return removeIfThere(n.nsDir(uid)) }); err != nil {
		return err
	}
	err := removeIfThere(n.runDir("pods", uid))
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // others keep their things of the pod there
	}
	return err
}

// unpin removes what pin made, however often it was mounted.
func unpin(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return removeIfThere(path)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List returns the UIDs of all pods that have a sandbox, complete or not, sorted.
func (n *Network) List() ([]string, error) {
	paths, err := filepath.Glob(n.runDir("pods", "*", "ns"))
	if err != nil {
		return nil, err
	}
	uids := make([]string, len(paths))
	for i, path := range paths {
		uids[i] = filepath.Base(filepath.Dir(path))
	}
	slices.Sort(uids)
	return uids, nil
}

func (n *Network) sandbox(uid string, r record) Sandbox {
	box := Sandbox{IP: r.IP}
	if !r.Options.HostNetwork {
		box.NetNS, box.UTSNS = n.nsPath(uid, "net"), n.nsPath(uid, "uts")
	}
	if !r.Options.HostIPC {
		box.IPCNS = n.nsPath(uid, "ipc")
	}
	if ids := r.Options.IDs; !ids.IsZero() {
		box.UserNS, box.IDs = n.nsPath(uid, "user"), ids
	}
	return box
}

// mounted says whether each namespace is really there: after a reboot on a disk that kept run/, only empty files are.
func (n *Network) mounted(uid string, o SandboxOptions) bool {
	_, kinds := namespaces(o)
	if !o.IDs.IsZero() {
		kinds = append(kinds, "user")
	}
	for _, kind := range kinds {
		var fs unix.Statfs_t
		if err := unix.Statfs(n.nsPath(uid, kind), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
			return false
		}
	}
	return true
}

// readRecord returns nil if there is none, or none that can be read: a torn one is none.
func (n *Network) readRecord(uid string) (*record, error) {
	data, err := os.ReadFile(n.recordPath(uid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		n.log.Warn("sandbox record unreadable, making the sandbox anew", "pod", uid, "err", err)
		return nil, nil
	}
	return &r, nil
}

// writeRecord needs no fsync: the record means nothing after a reboot.
func (n *Network) writeRecord(uid string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	draft := n.recordPath(uid) + ".new"
	if err := os.WriteFile(draft, data, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, n.recordPath(uid))
}

func (n *Network) nsDir(uid string) string        { return n.runDir("pods", uid, "ns") }
func (n *Network) nsPath(uid, kind string) string { return filepath.Join(n.nsDir(uid), kind) }
func (n *Network) recordPath(uid string) string   { return n.runDir("pods", uid, "sandbox.json") }

// did performs one action that outlives this process, unless a test says that it dies before.
func (n *Network) did(action string, fn func() error) error {
	if err := n.step(action); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}
