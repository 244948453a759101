package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
)

// Hostname is the name that a pod's containers have, as the kubelet cuts it (63 bytes, no trailing dash or dot).
func Hostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if pod.Spec.HostnameOverride != nil {
		name = *pod.Spec.HostnameOverride
	}
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// hostDomain is the domain of the pod's name; empty for a pod without a subdomain, or with a name of its own making.
func hostDomain(pod *corev1.Pod) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, api.ClusterDomain)
}

// maxKernelName is what the kernel takes as a host's name, in bytes.
const maxKernelName = 64

// KernelName is the name that the kernel tells the pod's processes: Hostname, or the whole name for a pod that wants it so and whose name is not
// too long.
func KernelName(pod *corev1.Pod) (string, error) {
	name, domain := Hostname(pod), hostDomain(pod)
	if domain == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return name, nil
	}
	full := name + "." + domain
	if len(full) > maxKernelName {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
			full, maxKernelName, len(full))
	}
	return full, nil
}

// Etc writes a pod's /etc/hosts, /etc/hostname and /etc/resolv.conf and returns their mounts. A container that mounts a
// volume on one of them gets its own instead: those are left out by the caller's later mounts.
func (v *Volumes) Etc(pod *corev1.Pod, ips []string) ([]Attachment, error) {
	dir, err := v.podFolder(string(pod.UID))
	if err != nil {
		return nil, err
	}
	resolv, err := v.resolv(pod)
	if err != nil {
		return nil, fmt.Errorf("make resolv.conf: %w", err)
	}
	hosts, err := hosts(pod, ips)
	if err != nil {
		return nil, fmt.Errorf("make hosts: %w", err)
	}
	name, err := KernelName(pod)
	if err != nil {
		return nil, err
	}
	var out []Attachment
	for _, f := range []struct{ name, text string }{{"hosts", hosts}, {"hostname", name + "\n"}, {"resolv.conf", resolv}} {
		path := filepath.Join(dir, etcFolder, f.name)
		if err := replace(path, f.text); err != nil {
			return nil, err
		}
		out = append(out, Attachment{Source: path, Destination: "/etc/" + f.name, Propagation: "rprivate"})
	}
	return out, nil
}

// replace writes in place, when anything changed: the file may be mounted, and its inode is what is mounted.
func replace(path, text string) error {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == text {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // containers of any user read it
}

func hosts(pod *corev1.Pod, ips []string) (string, error) {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file")
	if pod.Spec.HostNetwork {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		b.WriteString(" (host network).\n")
		b.Write(own)
	} else {
		b.WriteString(".\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
			"fe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		for _, ip := range ips {
			b.WriteString(ip + "\t" + hostNames(pod) + "\n")
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
	}
	for _, a := range pod.Spec.HostAliases {
		b.WriteString(a.IP + "\t" + strings.Join(a.Hostnames, "\t") + "\n")
	}
	return b.String(), nil
}

// hostNames: with a subdomain the full name of the pod comes first.
func hostNames(pod *corev1.Pod) string {
	name, domain := Hostname(pod), hostDomain(pod)
	if domain == "" {
		return name
	}
	return name + "." + domain + "\t" + name
}

// resolv is the cluster's resolver, the node's own or none, as the pod's dnsPolicy says, plus what the pod adds.
func (v *Volumes) resolv(pod *corev1.Pod) (string, error) {
	var servers, searches, options []string
	if pod.Spec.DNSPolicy != corev1.DNSNone {
		own, err := os.ReadFile(v.resolvConf)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		servers, searches, options = parseResolv(string(own))
	}
	if v.nameServer.IsValid() && clusterFirst(pod) {
		servers = []string{v.nameServer.String()}
		in := "svc." + api.ClusterDomain
		searches = merge([]string{pod.Namespace + "." + in, in, api.ClusterDomain}, searches)
		options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		servers = merge(servers, c.Nameservers)
		searches = merge(searches, c.Searches)
		options = override(options, c.Options)
	}
	var b strings.Builder
	if len(searches) > 0 {
		b.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String(), nil
}

// clusterFirst: a pod in the node's network asks as the node does, unless it says that it means the cluster's names.
func clusterFirst(pod *corev1.Pod) bool {
	switch pod.Spec.DNSPolicy {
	case corev1.DNSClusterFirstWithHostNet:
		return true
	case corev1.DNSDefault, corev1.DNSNone:
		return false
	case corev1.DNSClusterFirst:
	}
	return !pod.Spec.HostNetwork
}

func merge(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// override adds options, in place of those of the same name.
func override(options []string, own []corev1.PodDNSConfigOption) []string {
	for _, o := range own {
		text := o.Name
		if o.Value != nil {
			text += ":" + *o.Value
		}
		options = slices.DeleteFunc(options, func(have string) bool { return have == o.Name || strings.HasPrefix(have, o.Name+":") })
		options = append(options, text)
	}
	return options
}

func parseResolv(text string) (servers, searches, options []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search", "domain":
			searches = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, searches, options
}

// Termination makes the file that an instance may write its last words to, and returns its mount.
func (v *Volumes) Termination(pod *corev1.Pod, c *corev1.Container, attempt int32) (Attachment, error) {
	path, err := v.terminationPath(string(pod.UID), c.Name, attempt)
	if err != nil {
		return Attachment{}, err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return Attachment{}, fmt.Errorf("make termination log: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // whatever user the container runs as
		return Attachment{}, fmt.Errorf("make termination log: %w", err)
	}
	destination := c.TerminationMessagePath
	if destination == "" {
		destination = corev1.TerminationMessagePathDefault
	}
	return Attachment{Source: path, Destination: filepath.Clean("/" + destination), Propagation: "rprivate"}, nil
}

func (v *Volumes) terminationPath(uid, container string, attempt int32) (string, error) {
	dir, err := v.podFolder(uid)
	return filepath.Join(dir, terminationFolder, fmt.Sprintf("%s-%d", container, attempt)), err
}

// maxTermination is the kubelet's bound.
const maxTermination = 4096

// LastWords returns what an instance wrote to its termination log, cut to 4 KiB; empty for nothing.
func (v *Volumes) LastWords(uid, container string, attempt int32) (string, error) {
	path, err := v.terminationPath(uid, container, attempt)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTermination))
	return strings.ToValidUTF8(string(b), "?"), errors.Join(err, f.Close())
}
