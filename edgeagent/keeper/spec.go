package keeper

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// Bounds of a spec. They keep one spec inside one packet and one container inside the node.
const (
	MaxIDBytes    = 128
	MaxLabels     = 32
	MaxLabelBytes = 4096 // of all keys and values together
)

// Host as a namespace path means the keeper's own namespace of that kind.
const Host = "host"

// Spec says what a container is made of. Every path is a path of the node: the keeper trusts its only client, the agent,
// to have resolved what a user wrote, and resolves mount destinations inside Rootfs itself.
type Spec struct {
	// ID names the container on this node; unique until Delete; ASCII letters, digits, "_", "+", "-", "."; at most MaxIDBytes.
	ID string `json:"id"`
	// Labels come back in List and survive agent and keeper crashes, so that an agent can tell what runs: pod UID, container name, restart count.
	Labels map[string]string `json:"labels,omitempty"`

	// Rootfs is a mounted directory; the keeper does not mount, unmount or remove it.
	Rootfs         string `json:"rootfs"`
	ReadonlyRootfs bool   `json:"readonlyRootfs,omitempty"`

	// Args is the command and its arguments. A command without a slash is looked up in the PATH of Env.
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	// Cwd is absolute; empty means "/". It is created when missing.
	Cwd      string `json:"cwd,omitempty"`
	User     User   `json:"user"`
	Hostname string `json:"hostname,omitempty"` // used only with a new UTS namespace

	Namespaces Namespaces `json:"namespaces"`
	// IDs are those of Namespaces.User; zero without one. Rootfs must already look right from inside.
	IDs IDs `json:"ids,omitzero"`
	// Mounts come on top of the default ones (/proc, /dev, /dev/pts, /dev/shm, /dev/mqueue, /sys, /sys/fs/cgroup). One with the
	// destination of a default mount replaces it.
	Mounts  []Mount  `json:"mounts,omitempty"`
	Devices []Device `json:"devices,omitempty"`

	// Privileged grants all capabilities and devices, a writable /sys and no masked paths.
	Privileged bool `json:"privileged,omitempty"`
	// Capabilities is the bounding, permitted and effective set ("CAP_CHOWN"); nil means DefaultCapabilities, empty means none.
	Capabilities []string `json:"capabilities"`
	NoNewPrivs   bool     `json:"noNewPrivs,omitempty"`
	// MaskedPaths and ReadonlyPaths: nil means the defaults, empty means none.
	MaskedPaths   []string `json:"maskedPaths"`
	ReadonlyPaths []string `json:"readonlyPaths"`
	// SeccompProfile is SeccompRuntimeDefault, SeccompUnconfined, or SeccompLocalhost and the name of a file in the keeper's folder of
	// profiles. Empty means SeccompRuntimeDefault, or no filter on a kernel that has none. Privileged containers have none.
	SeccompProfile string            `json:"seccompProfile,omitempty"`
	Sysctls        map[string]string `json:"sysctls,omitempty"`
	Rlimits        []Rlimit          `json:"rlimits,omitempty"`

	Resources Resources `json:"resources"`
	// CgroupPath is absolute, below the keeper's cgroup parent, and belongs to this container alone. Delete removes it and every
	// empty group between it and the parent.
	CgroupPath string `json:"cgroupPath"`
	// OOMScoreAdj is -1000 to 1000; nil leaves the keeper's own value.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`

	// Terminal gives the process a pseudo-terminal; its output goes to the log. Such a container is hung up when the keeper crashes.
	Terminal bool `json:"terminal,omitempty"`
	// Stdin keeps the process's standard input open; otherwise it is /dev/null.
	Stdin bool `json:"stdin,omitempty"`
	// StdinOnce ends the standard input with the first attachment to it; without a terminal only. Otherwise it never ends.
	StdinOnce bool `json:"stdinOnce,omitempty"`
	// LogPath is the file that gets standard output and error in CRI format; empty means that output is dropped.
	LogPath string `json:"logPath,omitempty"`
	// LogMaxBytes is the size at which the log is rotated to LogPath.1; zero means DefaultLogMaxBytes.
	LogMaxBytes int64 `json:"logMaxBytes,omitempty"`
	// LogMaxFiles counts the current file and the rotated ones; zero means DefaultLogMaxFiles.
	LogMaxFiles int `json:"logMaxFiles,omitempty"`
}

// Defaults and names used in a Spec.
const (
	DefaultLogMaxBytes = 10 << 20
	DefaultLogMaxFiles = 3
	MinLogMaxBytes     = 4 << 10 // below it, rotation would cost more than writing

	SeccompUnconfined     = "unconfined"
	SeccompRuntimeDefault = "runtime/default"
	SeccompLocalhost      = "localhost/"
)

// User is who the process runs as, in the container's own numbers.
type User struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	AdditionalGIDs []uint32 `json:"additionalGids,omitempty"`
}

// Namespaces are paths to join. Empty means a new namespace, Host means the keeper's. Mount and cgroup namespaces are always new.
type Namespaces struct {
	Net string `json:"net,omitempty"`
	IPC string `json:"ipc,omitempty"`
	UTS string `json:"uts,omitempty"`
	PID string `json:"pid,omitempty"`
	// User is the path of a user namespace to join, to which Net, IPC and UTS must belong; empty means the keeper's. Its IDs are Spec.IDs.
	User string `json:"user,omitempty"`
}

// IDs are the user and group IDs of a user namespace: 0 to Count-1 inside are First to First+Count-1 outside.
type IDs struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// Mount is one mount as mount(8) would take it. Type "bind" takes "bind" or "rbind", "ro", "rw", "nosuid", "nodev", "noexec" "idmap" (owners
// are meant as they are called in the container's user namespace) and propagation names as options; unknown options become the file system's data.
type Mount struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Options     []string `json:"options,omitempty"`
}

// Device gives a container one device node of the host.
type Device struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath,omitempty"` // empty means HostPath
	Permissions   string `json:"permissions,omitempty"`   // of "rwm"; empty means "rwm"
	// AccessOnly lets the container use the device and makes no node for it: that comes as a mount.
	AccessOnly bool `json:"accessOnly,omitempty"`
}

// Rlimit is one resource limit by its name in getrlimit(2), such as "RLIMIT_NOFILE".
type Rlimit struct {
	Name string `json:"name"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Resources are cgroup limits. Zero always means no limit.
type Resources struct {
	// CPUShares is the v1 weight (2 to 262144, 1024 per core asked for); on v2 it is converted to cpu.weight.
	CPUShares uint64 `json:"cpuShares,omitempty"`
	// CPUQuotaMicros of every CPUPeriodMicros may be used; a zero period means 100,000.
	CPUQuotaMicros  int64  `json:"cpuQuotaMicros,omitempty"`
	CPUPeriodMicros uint64 `json:"cpuPeriodMicros,omitempty"`
	// CPUSet is a list of processors such as "0-1,3"; empty means all.
	CPUSet string `json:"cpuSet,omitempty"`
	// MemoryBytes is the hard limit. MemorySwapBytes is memory plus swap, as in v1; zero forbids swap when MemoryBytes is set.
	MemoryBytes     int64 `json:"memoryBytes,omitempty"`
	MemorySwapBytes int64 `json:"memorySwapBytes,omitempty"`
	PidsLimit       int64 `json:"pidsLimit,omitempty"`
}

// DefaultCapabilities are the 14 that containerd and Docker give, in alphabetical order.
func DefaultCapabilities() []string {
	return []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
		"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

// Validate reports every reason why a keeper would refuse s, as one error, without touching the machine.
func (s *Spec) Validate() error {
	return errors.Join(ValidateID(s.ID), s.validateLabels(), s.validateProcess(), s.validatePaths(), s.validateLimits())
}

// ValidateID checks the name of a container.
func ValidateID(id string) error {
	if id == "" || len(id) > MaxIDBytes || id == "." || id == ".." {
		return fmt.Errorf("container id %.20q has %d bytes, want 1 to %d", id, len(id), MaxIDBytes)
	}
	for _, r := range id {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.", r) {
			return fmt.Errorf("container id %.20q has %q, want letters, digits and _+-. only", id, r)
		}
	}
	return nil
}

func (s *Spec) validateLabels() error {
	size := 0
	for k, v := range s.Labels {
		size += len(k) + len(v)
	}
	if len(s.Labels) > MaxLabels || size > MaxLabelBytes {
		return fmt.Errorf("%d labels of %d bytes, want at most %d of %d bytes", len(s.Labels), size, MaxLabels, MaxLabelBytes)
	}
	return nil
}

func (s *Spec) validateProcess() error {
	var errs []error
	if len(s.Args) == 0 || s.Args[0] == "" {
		errs = append(errs, errors.New("args is empty"))
	}
	errs = append(errs, s.validateSeccomp())
	if a := s.OOMScoreAdj; a != nil && (*a < -1000 || *a > 1000) {
		errs = append(errs, fmt.Errorf("oom score adjustment %d, want -1000 to 1000", *a))
	}
	return errors.Join(errs...)
}

func (s *Spec) validateSeccomp() error {
	switch s.SeccompProfile {
	case "", SeccompUnconfined, SeccompRuntimeDefault:
		return nil
	}
	name, ok := strings.CutPrefix(s.SeccompProfile, SeccompLocalhost)
	if !ok || !filepath.IsLocal(name) || path.Clean(name) != name {
		return fmt.Errorf("seccomp profile %q is neither %q, %q nor %qNAME", s.SeccompProfile, SeccompRuntimeDefault, SeccompUnconfined, SeccompLocalhost)
	}
	return nil
}

func (s *Spec) validatePaths() error {
	errs := []error{absolute("rootfs", s.Rootfs), absolute("cgroup path", s.CgroupPath)}
	if s.Cwd != "" {
		errs = append(errs, absolute("cwd", s.Cwd))
	}
	if s.LogPath != "" {
		errs = append(errs, absolute("log path", s.LogPath))
	}
	for _, m := range s.Mounts {
		errs = append(errs, absolute("mount destination", m.Destination))
	}
	for _, d := range s.Devices {
		errs = append(errs, absolute("device path", d.HostPath))
	}
	if s.Namespaces.User == Host || (s.Namespaces.User == "") != (s.IDs == IDs{}) {
		errs = append(errs, errors.New("a user namespace takes a path and its IDs"))
	}
	for _, ns := range []string{s.Namespaces.Net, s.Namespaces.IPC, s.Namespaces.UTS, s.Namespaces.PID, s.Namespaces.User} {
		if ns != "" && ns != Host {
			errs = append(errs, absolute("namespace path", ns))
		}
	}
	return errors.Join(errs...)
}

func absolute(what, p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p {
		return fmt.Errorf("%s %q is not a clean absolute path", what, p)
	}
	return nil
}

func (s *Spec) validateLimits() error {
	r := s.Resources
	var errs []error
	if r.CPUQuotaMicros < 0 || r.MemoryBytes < 0 || r.MemorySwapBytes < 0 || r.PidsLimit < 0 {
		errs = append(errs, errors.New("a resource limit is negative"))
	}
	if r.MemorySwapBytes != 0 && r.MemorySwapBytes < r.MemoryBytes {
		errs = append(errs, fmt.Errorf("memory+swap limit %d is below the memory limit %d", r.MemorySwapBytes, r.MemoryBytes))
	}
	if s.LogMaxBytes != 0 && s.LogMaxBytes < MinLogMaxBytes {
		errs = append(errs, fmt.Errorf("log size %d, want at least %d bytes", s.LogMaxBytes, MinLogMaxBytes))
	}
	if s.LogMaxFiles < 0 || s.LogMaxFiles > 100 {
		errs = append(errs, fmt.Errorf("%d log files, want 1 to 100", s.LogMaxFiles))
	}
	return errors.Join(errs...)
}
