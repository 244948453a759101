package containerspec

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/keeper"
)

// errUnsupported names settings that this agent cannot honour; running the container without them would be a lie.
var errUnsupported = errors.New("is not supported by this node")

// secure applies the security contexts; the container's wins over the pod's.
func secure(s *keeper.Spec, in Input) error {
	c := in.Container.SecurityContext
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	s.ReadonlyRootfs = isTrue(c.ReadOnlyRootFilesystem)
	s.Privileged = isTrue(c.Privileged)
	s.NoNewPrivs = c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation && !s.Privileged
	if !s.Privileged {
		s.Capabilities = capabilities(c.Capabilities)
	}
	if c.ProcMount != nil && *c.ProcMount == corev1.UnmaskedProcMount {
		s.MaskedPaths, s.ReadonlyPaths = []string{}, []string{}
	}
	if isTrue(in.Pod.Spec.ShareProcessNamespace) {
		return fmt.Errorf("shareProcessNamespace %w", errUnsupported)
	}
	if err := seccomp(s, in.Pod.Spec.SecurityContext, c); err != nil {
		return err
	}
	return checkNonRoot(in)
}

// seccomp: who does not ask gets the keeper's default profile, and the keeper says whether it has one that is asked for.
func seccomp(s *keeper.Spec, pod *corev1.PodSecurityContext, c *corev1.SecurityContext) error {
	profile := c.SeccompProfile
	if profile == nil && pod != nil {
		profile = pod.SeccompProfile
	}
	if profile == nil || s.Privileged {
		return nil
	}
	switch profile.Type {
	case corev1.SeccompProfileTypeUnconfined:
		s.SeccompProfile = keeper.SeccompUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		s.SeccompProfile = keeper.SeccompRuntimeDefault
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil {
			return errors.New("localhostProfile must be set if seccompProfile type is Localhost")
		}
		s.SeccompProfile = keeper.SeccompLocalhost + path.Clean(*profile.LocalhostProfile)
	}
	return nil
}

// capabilities starts from the default set, drops, then adds.
func capabilities(c *corev1.Capabilities) []string {
	if c == nil {
		return nil // the keeper's default
	}
	set := map[string]bool{}
	for _, name := range keeper.DefaultCapabilities() {
		set[name] = true
	}
	for _, name := range c.Drop {
		if strings.EqualFold(string(name), "ALL") {
			clear(set)
		}
		delete(set, capability(name))
	}
	for _, name := range c.Add {
		if strings.EqualFold(string(name), "ALL") {
			for _, all := range allCapabilities {
				set[all] = true
			}
			continue
		}
		set[capability(name)] = true
	}
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(set))))
}

func capability(name corev1.Capability) string {
	upper := strings.ToUpper(string(name))
	if strings.HasPrefix(upper, "CAP_") {
		return upper
	}
	return "CAP_" + upper
}

// allCapabilities is capabilities(7) as of Linux 5.9.
var allCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
	"CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT",
	"CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_SYSLOG", "CAP_WAKE_ALARM",
}

// checkNonRoot refuses a container that must not run as root and would, or might, in the kubelet's words
// (pkg/kubelet/kuberuntime/security_context.go).
func checkNonRoot(in Input) error {
	c, p := in.Container.SecurityContext, in.Pod.Spec.SecurityContext
	var must *bool
	if p != nil {
		must = p.RunAsNonRoot
	}
	if c != nil && c.RunAsNonRoot != nil {
		must = c.RunAsNonRoot
	}
	if !isTrue(must) {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", in.Pod.Name+"_"+in.Pod.Namespace+"("+string(in.Pod.UID)+")", in.Container.Name)
	user, _ := override(in.Pod, in.Container)
	image, _, _ := strings.Cut(in.Image.User, ":")
	_, notNumber := strconv.ParseUint(image, 10, 32)
	switch {
	case user != "" && in.User.UID == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
	case user != "":
		return nil
	case image != "" && notNumber != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", image, where)
	case in.User.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	default:
		return nil
	}
}

func isTrue(b *bool) bool { return b != nil && *b }
