package containerspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// safeSysctls belong to a namespace and touch no other pod: SafeSysctlAllowlist of the kubelet's pkg/kubelet/sysctl, for
// the kernels that this runs on.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	"net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
}

// The namespaces of kernel settings, as the kubelet calls them.
const (
	netNamespace = "Net"
	ipcNamespace = "IPC"
)

// sysctlNamespace is the namespace that a kernel setting belongs to; empty for one that is the node's.
func sysctlNamespace(name string) string {
	switch {
	case strings.HasPrefix(name, "net."):
		return netNamespace
	case strings.HasPrefix(name, "fs.mqueue."), strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem":
		return ipcNamespace
	default:
		return ""
	}
}

// ValidateUnsafeSysctls checks which settings a node allows besides the safe ones: names, or beginnings that end in "*", of what belongs to a
// pod's namespaces.
func ValidateUnsafeSysctls(list []string) error {
	for _, s := range list {
		if sysctlNamespace(strings.TrimSuffix(sysctlName(s), "*")) == "" {
			return fmt.Errorf("the sysctls %q are not known to be namespaced", s)
		}
	}
	return nil
}

// ForbiddenSysctl says in the kubelet's words why a node does not take a pod for its sysctls; empty when it does. unsafe is what the node
// allows besides the safe ones.
func ForbiddenSysctl(p *corev1.Pod, unsafe []string) string {
	if p.Spec.SecurityContext == nil {
		return ""
	}
	for _, s := range p.Spec.SecurityContext.Sysctls {
		if why := forbiddenSysctl(sysctlName(s.Name), &p.Spec, unsafe); why != "" {
			return "forbidden sysctl: " + why
		}
	}
	return ""
}

func forbiddenSysctl(name string, spec *corev1.PodSpec, unsafe []string) string {
	allowed := slices.Contains(safeSysctls, name) || slices.ContainsFunc(unsafe, func(pattern string) bool { return matches(sysctlName(pattern), name) })
	namespace := sysctlNamespace(name)
	switch {
	case !allowed || namespace == "":
		return fmt.Sprintf("%q not allowlisted", name)
	case namespace == netNamespace && spec.HostNetwork, namespace == ipcNamespace && spec.HostIPC:
		return fmt.Sprintf("%q not allowed with host %s enabled", name, namespace)
	default:
		return ""
	}
}

func matches(pattern, name string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, start)
	}
	return pattern == name
}

// sysctlName writes a name with dots, whichever separator comes first in it: sysctl(8) knows both ways. The other one then stands for a
// dot in a name.
func sysctlName(s string) string {
	if i := strings.IndexAny(s, "./"); i < 0 || s[i] == '.' {
		return s
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(s)
}
