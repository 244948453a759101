package containerspec

import (
	"errors"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/edgeagent/volume"
)

// Image is what of an image's configuration matters for running it.
type Image struct {
	ID         string // repository@digest
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	WorkingDir string
	StopSignal string // name or number; empty means SIGTERM
}

// Input is all that a container is made of.
type Input struct {
	Pod         *corev1.Pod
	Container   *corev1.Container
	Attempt     int32
	Image       Image
	Env         []string // of the spec, resolved; wins over the image's
	User        keeper.User
	Rootfs      string
	Namespaces  keeper.Namespaces // of the pod's sandbox
	IDs         idrange.Range     // of Namespaces.User
	Mounts      []volume.Attachment
	Devices     []keeper.Device // claimed; their nodes are among the mounts
	DeviceEnv   []string        // where they are; the spec's wins
	LogPath     string
	CgroupRoot  string // below which the pod's group goes
	MemoryBytes int64  // of the node
	PidsLimit   int64  // zero for none
	LogMaxBytes int64  // of each file; zero for the keeper's default
	LogMaxFiles int    // likewise
}

// ID is the name of an instance at the keeper.
func ID(uid, container string, attempt int32) string {
	return fmt.Sprintf("%s-%s-%d", uid, container, attempt)
}

// Build returns the keeper's spec of one instance.
func Build(in Input) (keeper.Spec, error) {
	args, err := command(in)
	if err != nil {
		return keeper.Spec{}, err
	}
	name, err := volume.KernelName(in.Pod)
	if err != nil {
		return keeper.Spec{}, err
	}
	id := ID(string(in.Pod.UID), in.Container.Name, in.Attempt)
	adj := OOMScoreAdj(in.Pod, in.Container, in.MemoryBytes)
	s := keeper.Spec{
		ID: id, Labels: labels(in), Rootfs: in.Rootfs,
		Args: args, Env: environment(in, name), Cwd: workingDir(in), User: in.User,
		Namespaces: in.Namespaces, Mounts: mounts(in.Mounts, !in.IDs.IsZero()),
		Resources:   Resources(in.Container, in.PidsLimit),
		CgroupPath:  path.Join(in.CgroupRoot, "pod"+string(in.Pod.UID), id),
		OOMScoreAdj: &adj,
		Terminal:    in.Container.TTY, Stdin: in.Container.Stdin, StdinOnce: in.Container.StdinOnce,
		LogPath: in.LogPath, LogMaxBytes: in.LogMaxBytes, LogMaxFiles: in.LogMaxFiles,
		Sysctls: sysctls(in.Pod), Devices: in.Devices,
	}
	if !in.IDs.IsZero() {
		s.IDs = keeper.IDs{First: in.IDs.First, Count: idrange.Count}
	}
	if err := errors.Join(secure(&s, in), checkIDs(in)); err != nil {
		return keeper.Spec{}, err
	}
	return s, s.Validate()
}

// command applies Docker's rule: a command replaces the image's entrypoint and its arguments, args replace only those.
func command(in Input) ([]string, error) {
	c, lookup := in.Container, lookup(in.Env)
	var args []string
	switch {
	case len(c.Command) > 0:
		args = append(expand(c.Command, lookup), expand(c.Args, lookup)...)
	case len(c.Args) > 0:
		args = append(append(args, in.Image.Entrypoint...), expand(c.Args, lookup)...)
	default:
		args = append(append(args, in.Image.Entrypoint...), in.Image.Cmd...)
	}
	if len(args) == 0 {
		return nil, errors.New("no command specified: neither the image nor the pod has one")
	}
	return args, nil
}

func expand(list []string, lookup func(string) (string, bool)) []string {
	var out []string
	for _, s := range list {
		out = append(out, resolve.Expand(s, lookup))
	}
	return out
}

func lookup(env []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, line := range env {
			if value, ok := strings.CutPrefix(line, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is the image's, overridden by the spec's. Every process has a PATH and a HOSTNAME, as containerd gives.
func environment(in Input, hostname string) []string {
	out := []string{"HOSTNAME=" + hostname}
	if in.Container.TTY {
		out = append(out, "TERM=xterm")
	}
	own := lookup(in.Env)
	for _, line := range in.DeviceEnv {
		if name, _, _ := strings.Cut(line, "="); !has(own, name) {
			out = append(out, line)
		}
	}
	hasPath := false
	for _, line := range in.Image.Env {
		name, _, _ := strings.Cut(line, "=")
		if _, replaced := own(name); !replaced {
			out = append(out, line)
			hasPath = hasPath || name == "PATH"
		}
	}
	if _, ok := own("PATH"); !ok && !hasPath {
		out = append(out, defaultPath)
	}
	return append(out, in.Env...)
}

func has(lookup func(string) (string, bool), name string) bool {
	_, ok := lookup(name)
	return ok
}

func workingDir(in Input) string {
	dir := in.Container.WorkingDir
	if dir == "" {
		dir = in.Image.WorkingDir
	}
	if dir == "" {
		return ""
	}
	return path.Clean("/" + dir)
}

func sysctls(p *corev1.Pod) map[string]string {
	c := p.Spec.SecurityContext
	if c == nil || len(c.Sysctls) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, s := range c.Sysctls {
		out[sysctlName(s.Name)] = s.Value
	}
	return out
}

// mounts keeps the last of several mounts at one place: what the pod names wins over what every pod gets.
func mounts(list []volume.Attachment, users bool) []keeper.Mount {
	last := map[string]int{}
	for i, a := range list {
		last[a.Destination] = i
	}
	var out []keeper.Mount
	for i, a := range list {
		if last[a.Destination] != i {
			continue
		}
		options := []string{"rbind", a.Propagation}
		if a.ReadOnly {
			options = append(options, "ro")
		} else {
			options = append(options, "rw")
		}
		if users {
			options = append(options, "idmap")
		}
		out = append(out, keeper.Mount{Source: a.Source, Destination: a.Destination, Type: "bind", Options: options})
	}
	return out
}

// Labels of an instance at the keeper: by them a new agent knows whose it is. The first six are the kubelet's.
const (
	LabelUID        = "io.kubernetes.pod.uid"
	LabelNamespace  = "io.kubernetes.pod.namespace"
	LabelPod        = "io.kubernetes.pod.name"
	LabelContainer  = "io.kubernetes.container.name"
	LabelHash       = "io.kubernetes.container.hash"
	LabelAttempt    = "io.kubernetes.container.restartCount"
	LabelImageID    = "skerry.image.id"
	LabelStopSignal = "skerry.stop.signal"
)

func labels(in Input) map[string]string {
	signal := in.Image.StopSignal
	if l := in.Container.Lifecycle; l != nil && l.StopSignal != nil {
		signal = string(*l.StopSignal)
	}
	return map[string]string{
		LabelUID: string(in.Pod.UID), LabelNamespace: in.Pod.Namespace, LabelPod: in.Pod.Name,
		LabelContainer: in.Container.Name, LabelHash: pod.Hash(in.Container), LabelAttempt: fmt.Sprint(in.Attempt),
		LabelImageID: in.Image.ID, LabelStopSignal: signal,
	}
}
