package edgeagent

import (
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/containerspec"
)

// The kubelet's reasons for pods that ask for what their node will never give.
const (
	sysctlForbidden = "SysctlForbidden"
	noAppArmor      = "AppArmor"
)

// incapable says why this node can never run the pod as it is, as the kubelet does; no reason when it can.
func (n *node) incapable(p *corev1.Pod) (reason, message string) {
	if why := containerspec.ForbiddenSysctl(p, n.unsafeSysctls); why != "" {
		return sysctlForbidden, why
	}
	if containerspec.WantsAppArmor(p) {
		return noAppArmor, "Cannot enforce AppArmor: " + appArmorMissing()
	}
	return "", ""
}

// appArmorMissing: no profile is ever applied; on most nodes there is none to apply.
func appArmorMissing() string {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(enabled), "Y") {
		return "AppArmor is not enabled on the host"
	}
	return "this node does not apply profiles"
}
