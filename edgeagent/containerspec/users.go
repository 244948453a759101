package containerspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/idrange"
)

// UserNamespace says whether a pod is to have a user namespace of its own, and whether it must: hostUsers false asks for one, true refuses
// it. A pod that says nothing gets one if the node can make it, unless it asks for something of the node that takes the node's own root,
// or for IDs that a range does not have.
func UserNamespace(p *corev1.Pod) (wanted, required bool) {
	if asked := p.Spec.HostUsers; asked != nil {
		return !*asked, !*asked
	}
	return !touchesNode(p) && idsFit(p), false
}

// touchesNode is true for pods that use the node's namespaces, files or devices, or a capability that counts outside of namespaces only.
func touchesNode(p *corev1.Pod) bool {
	s := &p.Spec
	if s.HostNetwork || s.HostPID || s.HostIPC {
		return true
	}
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if v.HostPath != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.CSI != nil {
			return true
		}
	}
	return anyContainer(p, func(c *corev1.Container) bool {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional
		}) {
			return true
		}
		return claimsDevice(c) || privilegedBeyond(c.SecurityContext)
	})
}

func anyContainer(p *corev1.Pod, is func(*corev1.Container) bool) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if is(&list[i]) {
				return true
			}
		}
	}
	return false
}

// claimsDevice: device nodes belong to the node's root.
func claimsDevice(c *corev1.Container) bool {
	for name := range c.Resources.Limits {
		if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			return true
		}
	}
	return false
}

// namespaced are the capabilities beyond the default ones that mean in a user namespace what they mean outside.
var namespaced = []string{"CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}

func privilegedBeyond(c *corev1.SecurityContext) bool {
	if c == nil {
		return false
	}
	if isTrue(c.Privileged) || (c.ProcMount != nil && *c.ProcMount == corev1.UnmaskedProcMount) {
		return true
	}
	if c.Capabilities == nil {
		return false
	}
	known := capabilities(&corev1.Capabilities{})
	return slices.ContainsFunc(c.Capabilities.Add, func(name corev1.Capability) bool {
		full := capability(name)
		return !slices.Contains(known, full) && !slices.Contains(namespaced, full)
	})
}

// checkIDs refuses a container whose IDs, which may be its image's, are not in the pod's range.
func checkIDs(in Input) error {
	if in.IDs.IsZero() {
		return nil
	}
	for _, id := range append([]uint32{in.User.UID, in.User.GID}, in.User.AdditionalGIDs...) {
		if id >= idrange.Count {
			return fmt.Errorf("user or group %d is not in the pod's user namespace, which has 0 to %d: set hostUsers to true", id, idrange.Count-1)
		}
	}
	return nil
}

// idsFit is true if all IDs that the pod names are in a range.
func idsFit(p *corev1.Pod) bool {
	fits := func(id *int64) bool { return id == nil || *id < idrange.Count }
	if s := p.Spec.SecurityContext; s != nil {
		if !fits(s.RunAsUser) || !fits(s.RunAsGroup) || !fits(s.FSGroup) {
			return false
		}
		if slices.ContainsFunc(s.SupplementalGroups, func(g int64) bool { return g >= idrange.Count }) {
			return false
		}
	}
	return !anyContainer(p, func(c *corev1.Container) bool {
		s := c.SecurityContext
		return s != nil && (!fits(s.RunAsUser) || !fits(s.RunAsGroup))
	})
}
