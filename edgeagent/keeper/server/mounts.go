package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// flagOption is a mount option that is a flag, set or cleared.
type flagOption struct {
	flag  int
	clear bool
}

// flagOptions are mount(8)'s names; what is not here and not a propagation is data for the file system.
var flagOptions = map[string]flagOption{
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "strictatime": {unix.MS_STRICTATIME, false},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, false}, "symfollow": {unix.MS_NOSYMFOLLOW, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
}

var propagationOptions = map[string]int{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// mountsOf returns the default mounts, those replaced that the spec brings itself, and then the spec's.
func mountsOf(spec *keeper.Spec) []*configs.Mount {
	var all []*configs.Mount
	for _, m := range defaultMounts(spec.Privileged) {
		replaced := func(own keeper.Mount) bool { return own.Destination == m.Destination }
		if !slices.ContainsFunc(spec.Mounts, replaced) {
			all = append(all, mountOf(m, spec.Namespaces.User))
		}
	}
	for _, m := range spec.Mounts {
		all = append(all, mountOf(m, spec.Namespaces.User))
	}
	return all
}

// defaultMounts are those of the OCI runtime specification as containerd and Docker make them.
func defaultMounts(privileged bool) []keeper.Mount {
	access := "ro"
	if privileged {
		access = "rw"
	}
	hard := []string{"nosuid", "noexec", "nodev"}
	return []keeper.Mount{
		{Source: "proc", Destination: "/proc", Type: "proc", Options: hard},
		{Source: "tmpfs", Destination: "/dev", Type: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Source: "devpts", Destination: "/dev/pts", Type: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Source: "shm", Destination: "/dev/shm", Type: "tmpfs", Options: append([]string{"mode=1777", "size=65536k"}, hard...)},
		{Source: "mqueue", Destination: "/dev/mqueue", Type: "mqueue", Options: hard},
		{Source: "sysfs", Destination: "/sys", Type: "sysfs", Options: append([]string{access}, hard...)},
		{Source: "cgroup", Destination: "/sys/fs/cgroup", Type: "cgroup", Options: append([]string{"relatime", access}, hard...)},
	}
}

func mountOf(m keeper.Mount, users string) *configs.Mount {
	out := &configs.Mount{Source: m.Source, Destination: m.Destination, Device: m.Type}
	var data []string
	for _, o := range m.Options {
		f, isFlag := flagOptions[o]
		p, isPropagation := propagationOptions[o]
		switch {
		case o == "idmap":
			out.IDMapping = &configs.MountIDMapping{UserNSPath: users, Recursive: true}
		case isFlag && f.clear:
			out.Flags &^= f.flag
			out.ClearedFlags |= f.flag
		case isFlag:
			out.Flags |= f.flag
			out.ClearedFlags &^= f.flag
		case isPropagation:
			out.PropagationFlags = append(out.PropagationFlags, p)
		default:
			data = append(data, o)
		}
	}
	out.Data = strings.Join(data, ",")
	if out.Device == "bind" && out.Flags&unix.MS_BIND == 0 {
		out.Flags |= unix.MS_BIND
	}
	return out
}

// rlimits are the names of getrlimit(2).
var rlimits = map[string]int{
	"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
}

func rlimitsOf(spec *keeper.Spec) ([]configs.Rlimit, error) {
	var out []configs.Rlimit
	for _, r := range spec.Rlimits {
		kind, ok := rlimits[r.Name]
		if !ok {
			return nil, fmt.Errorf("rlimit %q is unknown: %w", r.Name, keeper.ErrInvalid)
		}
		out = append(out, configs.Rlimit{Type: kind, Soft: r.Soft, Hard: r.Hard})
	}
	return out, nil
}
