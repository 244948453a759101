package edgeagent

import (
	"context"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/keeper"
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
		late := time.AfterFunc(actionPatience, func() { w.do(ctx, func() { w.announceDelay(a) }) })
		r := j.perform(ctx)
		late.Stop()
		w.do(ctx, func() {
			w.keep(j, r)
			w.result(r)
		})
		j.cleanUp(ctx, r)
	})
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
		err := n.removeInstance(ctx, j.action.ID)
		if err == nil && j.action.Logs {
			err = n.logs.Remove(uid)
		}
		return pod.Result{Err: err}
	case pod.RemoveSandbox:
		return pod.Result{Err: n.removeSandbox(ctx, uid)}
	case pod.RemoveVolumes:
		return pod.Result{Err: n.volumes.Remove(uid)}
	case pod.RunProbe:
		return j.probe(ctx)
	}
	return pod.Result{Err: fmt.Errorf("no such action %s", j.action.Verb)}
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
		ConfigMaps: a.ConfigMaps, Secrets: a.Secrets, Claims: a.Claims, Open: w.node.opener(a.SealedBy),
		Allocatable: facts.Allocatable, Services: w.node.services(),
	}
}

func (j *job) createSandbox(ctx context.Context) pod.Result {
	if !j.node.setup.enter(ctx.Done()) {
		return pod.Result{Err: ctx.Err()}
	}
	defer j.node.setup.leave()
	if handler := j.want.Pod.Annotations[api.AnnotationRuntime]; handler != "" && handler != api.RuntimeHandler {
		return pod.Result{Err: fmt.Errorf("no runtime for %q is configured", handler)} // containerd's words
	}
	spec := &j.want.Pod.Spec
	o := network.SandboxOptions{HostNetwork: spec.HostNetwork, HostIPC: spec.HostIPC}
	var err error
	if o.Hostname, err = volume.KernelName(j.want.Pod); err != nil {
		return pod.Result{Err: err}
	}
	if o.IDs, err = j.ids(); err != nil {
		return pod.Result{Err: err}
	}
	if o.IngressBits, o.EgressBits, err = containerspec.Bandwidth(j.want.Pod); err != nil {
		return pod.Result{Err: err}
	}
	box, err := j.node.sandboxes.CreateSandbox(ctx, j.worker.uid, o)
	if err != nil {
		return pod.Result{Err: err}
	}
	j.sandbox = box
	ip := box.IP.String()
	j.node.ports.set(ctx, j.worker.uid, portsOf(j.want.Pod, ip))
	return pod.Result{IPs: []string{ip}}
}

// ids claims the IDs of the pod's user namespace, if it is to have one.
func (j *job) ids() (idrange.Range, error) {
	wanted, required := containerspec.UserNamespace(j.want.Pod)
	switch missing := j.node.noUsers; {
	case required && missing != nil:
		return idrange.Range{}, fmt.Errorf("this node cannot make user namespaces, which hostUsers: false asks for: %w", missing)
	case !wanted || missing != nil:
		return idrange.Range{}, nil
	default:
		return j.node.users.Claim(j.worker.uid)
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
