package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/probe"
	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/edgeagent/volume"
)

// begin performs an action in a goroutine of its own and hands its result to the worker.
func (w *worker) begin(ctx context.Context, a pod.Action) {
	w.log.Debug("action", "action", a.String())
	j := w.job(a)
	w.actions.Go(func() {
		r := j.perform(ctx)
		w.do(ctx, func() {
			w.keep(j, r)
			w.result(r)
		})
		j.cleanUp(ctx, r)
	})
}

// cleanUp removes the instance before the one that has just been started. It comes last because nobody waits for it; what
// is left when the agent dies here, the next one finds.
func (j *job) cleanUp(ctx context.Context, r pod.Result) {
	if j.action.Verb != pod.StartContainer || r.ID == "" || j.previous == "" || j.previous == r.ID {
		return
	}
	if err := j.node.removeInstance(ctx, j.previous); err != nil && ctx.Err() == nil {
		j.worker.log.Warn("instance of before not removed", "id", j.previous, "err", err)
	}
}

// keep takes what an action has made besides its result.
func (w *worker) keep(j *job, r pod.Result) {
	if r.Err != nil {
		return
	}
	switch r.Action.Verb {
	case pod.CreateSandbox:
		w.sandbox = j.sandbox
	case pod.PullImage:
		w.images[r.Action.Container] = j.image
	default:
	}
}

// perform does the action. Every action may be repeated after it was cut off at any point.
func (j *job) perform(ctx context.Context) pod.Result {
	r := j.dispatch(ctx)
	r.Action = j.action
	return r
}

func (j *job) dispatch(ctx context.Context) pod.Result {
	switch n, uid := j.node, j.worker.uid; j.action.Verb {
	case pod.PrepareVolumes:
		return pod.Result{Err: n.volumes.Prepare(j.refs)}
	case pod.CreateSandbox:
		return j.createSandbox(ctx)
	case pod.PullImage:
		return j.pull(ctx)
	case pod.StartContainer:
		return j.start(ctx)
	case pod.SignalContainer:
		return j.signal(ctx)
	case pod.KillContainer:
		return pod.Result{Err: known(n.keeper.Kill(ctx, j.action.ID, syscall.SIGKILL, true))}
	case pod.RemoveContainer:
		return pod.Result{Err: n.removeInstance(ctx, j.action.ID)}
	case pod.RemoveSandbox:
		return pod.Result{Err: n.sandboxes.RemoveSandbox(ctx, uid)}
	case pod.RemoveVolumes:
		return pod.Result{Err: n.volumes.Remove(uid)}
	case pod.RunProbe:
		return j.probe(ctx)
	}
	return pod.Result{Err: fmt.Errorf("no such action %s", j.action.Verb)}
}

// known: a container that is not there has been killed.
func known(err error) error {
	if errors.Is(err, keeper.ErrNotFound) {
		return nil
	}
	return err
}

// job is an action with all that it works on, and what it made. It does not touch the worker's state.
type job struct {
	worker    *worker
	node      *node
	action    pod.Action
	want      uplink.Pod
	container *corev1.Container // nil for actions on the whole pod
	sandbox   network.Sandbox
	image     containerspec.Image
	previous  string // instance before, to be removed
	refs      resolve.Refs
	leaving   <-chan struct{} // closed when the pod must go
	ips       []string
}

// job takes from the worker's state, now and by the worker's goroutine, everything that an action works on.
func (w *worker) job(a pod.Action) *job {
	c := w.obs.Containers[a.Container]
	return &job{
		worker: w, node: w.node, action: a, want: w.want, container: pod.Spec(w.want.Pod, a.Container), sandbox: w.sandbox,
		image: w.images[a.Container], previous: c.ID, refs: w.refs(), leaving: w.leaving, ips: w.obs.PodIPs,
	}
}

func (w *worker) refs() resolve.Refs {
	a, facts := w.want.Assignment, w.node.facts()
	return resolve.Refs{
		Pod: w.want.Pod, PodIPs: w.obs.PodIPs, HostIPs: facts.HostIPs,
		ConfigMaps: a.ConfigMaps, Secrets: a.Secrets, Open: w.node.opener(a.SealedBy),
		Allocatable: facts.Allocatable, Services: w.node.services(),
	}
}

func (j *job) createSandbox(ctx context.Context) pod.Result {
	if !j.node.setup.enter(ctx.Done()) {
		return pod.Result{Err: ctx.Err()}
	}
	defer j.node.setup.leave()
	spec := &j.want.Pod.Spec
	o := network.SandboxOptions{Hostname: volume.Hostname(j.want.Pod), HostNetwork: spec.HostNetwork, HostIPC: spec.HostIPC}
	box, err := j.node.sandboxes.CreateSandbox(ctx, j.worker.uid, o)
	if err != nil {
		return pod.Result{Err: err}
	}
	j.sandbox = box
	return pod.Result{IPs: []string{box.IP.String()}}
}

func (j *job) pull(ctx context.Context) pod.Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the pull
		select {
		case <-j.leaving:
			cancel()
		case <-ctx.Done():
		}
	}()
	secrets, err := j.pullSecrets()
	if err != nil {
		return pod.Result{Err: err}
	}
	if !j.node.pulls.enter(ctx.Done()) {
		return pod.Result{Err: ctx.Err()}
	}
	defer j.node.pulls.leave()
	policy := j.container.ImagePullPolicy
	image, err := j.node.images.Pull(ctx, j.container.Image, policy, secrets)
	j.image = image
	return pod.Result{Err: err, ImageID: image.ID}
}

// pullSecrets opens the pod's pull secrets. As in the kubelet, a missing one is no error yet.
func (j *job) pullSecrets() ([][]byte, error) {
	var out [][]byte
	optional := true
	for _, ref := range j.want.Pod.Spec.ImagePullSecrets {
		data, err := j.refs.Secret(ref.Name, &optional)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{corev1.DockerConfigJsonKey, corev1.DockerConfigKey} {
			if data[key] != nil {
				out = append(out, data[key])
			}
		}
	}
	return out, nil
}

// start makes and starts an instance. Repeating it after it was cut off at any point gives one running instance.
func (j *job) start(ctx context.Context) pod.Result {
	id := containerspec.ID(j.worker.uid, j.container.Name, j.action.Attempt)
	if err := keeper.ValidateID(id); err != nil {
		return pod.Result{Err: &pod.Failure{Reason: "CreateContainerConfigError", Err: err}}
	}
	started, err := j.launch(ctx, id)
	if err == nil {
		err = j.postStart(ctx, id)
	}
	return pod.Result{ID: id, Started: started, ImageID: j.image.ID, Err: err}
}

// launch is start without the hook, which may take its time and must not keep others from starting.
func (j *job) launch(ctx context.Context, id string) (time.Time, error) {
	if !j.node.setup.enter(ctx.Done()) {
		return time.Time{}, ctx.Err()
	}
	defer j.node.setup.leave()
	return j.startAs(ctx, id)
}

func (j *job) startAs(ctx context.Context, id string) (time.Time, error) {
	rootfs, err := j.node.images.Mount(ctx, id, j.image.ID)
	if err != nil {
		return time.Time{}, fmt.Errorf("mount image: %w", err)
	}
	spec, err := j.spec(rootfs)
	if err == nil {
		err = j.create(ctx, spec)
	}
	if err != nil {
		err = errors.Join(err, j.node.images.Unmount(context.WithoutCancel(ctx), id))
		if errors.Is(err, keeper.ErrNoCommand) {
			err = &pod.Failure{Reason: "StartError", Started: true, Err: err}
		}
		return time.Time{}, err
	}
	if err := j.deadline(ctx, id); err != nil {
		return time.Time{}, err // the instance has not started: the next try makes it again
	}
	started := time.Now()
	err = j.node.keeper.Start(ctx, id)
	switch {
	case err == nil:
		return started, nil
	case errors.Is(err, keeper.ErrUnavailable) || ctx.Err() != nil:
		return time.Time{}, err // it may run: the next try finds out
	default:
		return time.Time{}, &pod.Failure{Reason: "StartError", Started: true, Err: err}
	}
}

// create makes the instance, or finds the one that an earlier try has made. One that has ended is made again.
func (j *job) create(ctx context.Context, spec keeper.Spec) error {
	err := j.node.keeper.Create(ctx, spec)
	if !errors.Is(err, keeper.ErrExists) {
		return err
	}
	list, err := j.node.keeper.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.ID == spec.ID && c.State == keeper.Running {
			return nil
		}
	}
	if err := j.node.keeper.Delete(ctx, spec.ID); err != nil {
		return err
	}
	return j.node.keeper.Create(ctx, spec)
}

// spec gathers everything that the keeper needs. What is the pod's fault is CreateContainerConfigError.
func (j *job) spec(rootfs string) (keeper.Spec, error) {
	config := func(err error) error { return &pod.Failure{Reason: "CreateContainerConfigError", Err: err} }
	env, err := j.refs.Env(j.container)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	user, err := containerspec.LookUpUser(j.want.Pod, j.container, j.image.User, rootfs)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	mounts, err := j.mounts(env)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	if err := j.node.logs.Prepare(j.worker.uid, j.container.Name, j.action.Attempt); err != nil {
		return keeper.Spec{}, err
	}
	spec, err := containerspec.Build(containerspec.Input{
		Pod: j.want.Pod, Container: j.container, Attempt: j.action.Attempt, Image: j.image, Env: env, User: user,
		Rootfs: rootfs, Namespaces: j.namespaces(), Mounts: mounts,
		LogPath:    j.node.logs.Path(j.worker.uid, j.container.Name, j.action.Attempt),
		CgroupRoot: j.node.cgroups, MemoryBytes: j.node.facts().MemoryBytes, PidsLimit: j.node.pids,
	})
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	return spec, nil
}

func (j *job) mounts(env []string) ([]volume.Attachment, error) {
	etc, err := j.node.volumes.Etc(j.want.Pod, j.ips)
	if err != nil {
		return nil, err
	}
	last, err := j.node.volumes.Termination(j.want.Pod, j.container, j.action.Attempt)
	if err != nil {
		return nil, err
	}
	own, err := j.node.volumes.Attach(j.want.Pod, j.container, env)
	if err != nil {
		return nil, err
	}
	return append(append(etc, last), own...), nil
}

func (j *job) namespaces() keeper.Namespaces {
	orHost := func(path string) string {
		if path == "" {
			return keeper.Host
		}
		return path
	}
	ns := keeper.Namespaces{Net: orHost(j.sandbox.NetNS), IPC: orHost(j.sandbox.IPCNS), UTS: orHost(j.sandbox.UTSNS)}
	if j.want.Pod.Spec.HostPID {
		ns.PID = keeper.Host
	}
	return ns
}

// removeInstance removes an ended instance with its file system. It may be repeated.
func (n *node) removeInstance(ctx context.Context, id string) error {
	if err := n.keeper.Delete(ctx, id); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	return n.images.Unmount(ctx, id)
}

// signal runs the pre-stop hook and sends the stop signal. A hook that fails stops nobody from stopping.
func (j *job) signal(ctx context.Context) pod.Result {
	if j.container != nil && j.container.Lifecycle != nil && j.container.Lifecycle.PreStop != nil {
		hook, cancel := context.WithTimeout(ctx, j.action.Grace)
		err := j.hook(hook, j.action.ID, j.container.Lifecycle.PreStop)
		cancel()
		if err != nil {
			j.worker.event(j.want.Pod, j.action.Container, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: "+err.Error())
		}
	}
	sig, err := j.stopSignal(ctx)
	if err != nil {
		return pod.Result{Err: err}
	}
	return pod.Result{Err: known(j.node.keeper.Kill(ctx, j.action.ID, sig, false))}
}

// stopSignal is the instance's own, which its label holds since it was made.
func (j *job) stopSignal(ctx context.Context) (syscall.Signal, error) {
	if j.image.ID != "" {
		s := j.image.StopSignal
		if j.container != nil && j.container.Lifecycle != nil && j.container.Lifecycle.StopSignal != nil {
			s = string(*j.container.Lifecycle.StopSignal)
		}
		return containerspec.Signal(s), nil
	}
	list, err := j.node.keeper.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, c := range list {
		if c.ID == j.action.ID {
			return containerspec.Signal(c.Labels[containerspec.LabelStopSignal]), nil
		}
	}
	return syscall.SIGTERM, nil
}

// postStart runs the post-start hook; when it fails the container is killed, and what follows is its restart.
func (j *job) postStart(ctx context.Context, id string) error {
	if j.container.Lifecycle == nil || j.container.Lifecycle.PostStart == nil {
		return nil
	}
	err := j.hook(ctx, id, j.container.Lifecycle.PostStart)
	if err == nil {
		return nil
	}
	j.worker.event(j.want.Pod, j.container.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: "+err.Error())
	return known(j.node.keeper.Kill(ctx, id, syscall.SIGKILL, true))
}

func (j *job) hook(ctx context.Context, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		res, err := j.node.keeper.Exec(ctx, id, keeper.ExecSpec{Args: h.Exec.Command})
		if err == nil && res.ExitCode != 0 {
			err = fmt.Errorf("command %q exited with %d: %.200s", h.Exec.Command, res.ExitCode, res.Output)
		}
		return err
	case h.HTTPGet != nil:
		res, err := j.target(id).HTTP(ctx, h.HTTPGet)
		if err == nil && !res.Passed {
			err = errors.New(res.Output)
		}
		return err
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		case <-ctx.Done():
		}
		return nil
	default:
		return nil
	}
}

func (j *job) target(id string) probe.Target {
	ip := ""
	if len(j.ips) > 0 {
		ip = j.ips[0]
	}
	exec := func(ctx context.Context, args []string, timeout time.Duration) (int, []byte, bool, error) {
		res, err := j.node.keeper.Exec(ctx, id, keeper.ExecSpec{Args: args, Timeout: timeout})
		return res.ExitCode, res.Output, res.TimedOut, err
	}
	return probe.Target{Container: j.container, PodIP: ip, Exec: exec}
}

func (j *job) probe(ctx context.Context) pod.Result {
	spec := pod.ProbeOf(j.container, j.action.Probe)
	if spec == nil {
		return pod.Result{Err: probe.ErrNoHandler}
	}
	res, err := probe.Run(ctx, spec, j.target(j.action.ID))
	return pod.Result{Passed: res.Passed, Output: res.Output, Err: err}
}

// exit turns the keeper's record into ours, with the container's last words.
func (w *worker) exit(ctx context.Context, e keeper.Exit, attempt int32, started time.Time) pod.Exit {
	out := pod.Exit{
		ID: e.ID, Code: int32(e.Code), Signal: int32(e.Signal), OOM: e.OOMKilled, At: e.At, Started: started, //nolint:gosec // exit codes and signals
	}
	if e.Unknown {
		out.Reported = pod.StatusUnknown
	}
	container := e.Labels[containerspec.LabelContainer]
	words, err := w.node.volumes.LastWords(w.uid, container, attempt)
	if err != nil {
		w.log.Warn("termination message unreadable", "container", container, "err", err)
	}
	if spec := pod.Spec(w.want.Pod, container); words == "" && e.Code != 0 && spec != nil &&
		spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		words = w.lastLines(ctx, container)
	}
	out.Message = words
	return out
}

// lastLines is the end of a container's log, as much as the kubelet takes.
func (w *worker) lastLines(ctx context.Context, container string) string {
	var b strings.Builder
	r := logs.Request{UID: w.uid, Container: container, Options: logs.Options{Tail: 80}}
	if err := w.node.logs.Copy(ctx, &b, r, nil); err != nil {
		return ""
	}
	text := b.String()
	if len(text) > 2048 {
		text = text[len(text)-2048:]
	}
	return text
}
