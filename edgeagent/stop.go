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
	"skerry.dev/skerry/edgeagent/pod"
)

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

// known: a container that is not there has been killed.
func known(err error) error {
	if errors.Is(err, keeper.ErrNotFound) {
		return nil
	}
	return err
}

// removeInstance removes an ended instance with its file system. It may be repeated.
func (n *node) removeInstance(ctx context.Context, id string) error {
	if err := n.keeper.Delete(ctx, id); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	return n.images.Unmount(ctx, id)
}

// removeSandbox removes what all containers of a pod share, once none is left: a pod is not gone while one runs, whatever
// this agent believes of it. One that does is killed, and the step is tried again.
func (n *node) removeSandbox(ctx context.Context, uid string) error {
	list, err := n.keeper.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Labels[containerspec.LabelUID] != uid || c.State == keeper.Exited {
			continue // what has ended is being removed already
		}
		if err := known(n.keeper.Kill(ctx, c.ID, syscall.SIGKILL, true)); err != nil {
			return err
		}
		if err := n.removeInstance(ctx, c.ID); err != nil {
			return err
		}
	}
	n.ports.set(ctx, uid, nil)
	if err := n.sandboxes.RemoveSandbox(ctx, uid); err != nil {
		return err
	}
	if n.devices != nil {
		if err := n.devices.Release(uid); err != nil {
			return err
		}
	}
	return n.users.Release(uid)
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
