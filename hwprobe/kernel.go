package hwprobe

import (
	"slices"
	"strconv"
	"strings"

	"skerry.dev/skerry/api"
)

func (t tree) kernel() api.Kernel {
	release := t.pairs("etc/os-release")
	k := api.Kernel{
		Version:     t.text("proc/sys/kernel/osrelease"),
		Filesystems: t.filesystems(),
		OSImage:     release["PRETTY_NAME"], OSID: release["ID"], OSVersion: release["VERSION_ID"],
	}
	k.Architecture = architecture(t.text("proc/sys/kernel/arch"), k.Version, t.text("proc/cpuinfo"))
	k.CgroupVersion, k.Controllers = t.cgroups()
	k.Features = t.features(k)
	return k
}

// architecture is Go's name of the processor architecture. Kernels since 6.1 say it themselves; for older ones it is read
// off the form of /proc/cpuinfo.
func architecture(arch, release, cpuinfo string) string {
	switch {
	case arch == "x86_64", arch == "amd64", strings.Contains(cpuinfo, "GenuineIntel"), strings.Contains(cpuinfo, "AuthenticAMD"):
		return "amd64"
	case arch == "aarch64", strings.HasSuffix(release, "-arm64"), strings.Contains(cpuinfo, "CPU architecture: 8"):
		return "arm64"
	case strings.HasPrefix(arch, "armv"), strings.Contains(cpuinfo, "CPU architecture: 7"), strings.Contains(cpuinfo, "ARMv7"):
		return "arm"
	case arch == "riscv64", strings.Contains(cpuinfo, "isa\t\t: rv64"):
		return "riscv64"
	}
	return arch
}

func (t tree) filesystems() []string {
	var out []string
	for line := range strings.Lines(t.text("proc/filesystems")) {
		if fields := strings.Fields(line); len(fields) > 0 {
			out = append(out, fields[len(fields)-1])
		}
	}
	slices.Sort(out)
	return out
}

// cgroups says which version is mounted and which controllers it offers.
func (t tree) cgroups() (version string, controllers []string) {
	v1, v2 := false, false
	for _, m := range t.mountTable() {
		switch m.fstype {
		case "cgroup":
			v1 = v1 || !strings.Contains(m.options, "name=")
		case "cgroup2":
			v2 = true
		}
	}
	switch {
	case v1 && v2:
		version = "hybrid"
	case v1:
		version = "v1"
	case v2:
		version = "v2"
	default:
		return "", nil
	}
	for line := range strings.Lines(t.text("proc/cgroups")) {
		if f := strings.Fields(line); len(f) == 4 && f[3] == "1" {
			controllers = append(controllers, f[0])
		}
	}
	if unified := strings.Fields(t.text("sys/fs/cgroup/cgroup.controllers")); version == "v2" && len(unified) > 0 {
		controllers = unified
	}
	slices.Sort(controllers)
	return version, controllers
}

// features are what Skerry relies on, by the name it gives it.
func (t tree) features(k api.Kernel) map[string]bool {
	net := "proc/sys/net/"
	return map[string]bool{
		"overlay":          slices.Contains(k.Filesystems, "overlay") || t.exists("sys/module/overlay"),
		"cgroups":          k.CgroupVersion != "",
		"user-namespaces":  t.number("proc/sys/user/max_user_namespaces") > 0,
		"net-namespaces":   t.number("proc/sys/user/max_net_namespaces") > 0,
		"seccomp":          t.exists("proc/sys/kernel/seccomp/actions_avail"),
		"ipv4-forwarding":  t.exists(net + "ipv4/ip_forward"),
		"ipv6":             t.exists(net + "ipv6"),
		"conntrack":        t.exists(net + "netfilter/nf_conntrack_max"),
		"pressure":         t.exists("proc/pressure/memory"),
		"apparmor":         t.text("sys/module/apparmor/parameters/enabled") == "Y",
		"selinux":          t.exists("sys/fs/selinux/enforce"),
		"kvm":              t.exists("dev/kvm"),
		"tun":              t.exists("dev/net/tun"),
		"watchdog":         t.exists("dev/watchdog"),
		"idmapped-mounts":  kernelAtLeast(k.Version, 5, 12),
		"pidfd":            kernelAtLeast(k.Version, 5, 3),
		"cgroup-kill":      kernelAtLeast(k.Version, 5, 14),
		"exit-by-pidfd":    kernelAtLeast(k.Version, 6, 15),
		"overlay-userns":   kernelAtLeast(k.Version, 5, 11),
		"clone-into-group": kernelAtLeast(k.Version, 5, 7),
	}
}

// kernelAtLeast compares a release such as 6.1.0-13-arm64. An unreadable one is older than anything.
func kernelAtLeast(release string, major, minor int) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return false
	}
	a, err := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err == nil && err2 == nil && (a > major || a == major && b >= minor)
}
