package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IDScheme is the runtime's name in container ids.
const IDScheme = "skerry://"

// pullShown is how long a failed pull is shown as such before it is shown as waiting for the next try.
const pullShown = 2 * time.Second

func (p *planner) containerStatuses(specs []corev1.Container) []corev1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	out := make([]corev1.ContainerStatus, 0, len(specs))
	for i := range specs {
		out = append(out, p.containerStatus(&specs[i]))
	}
	return out
}

func (p *planner) containerStatus(c *corev1.Container) corev1.ContainerStatus {
	o := p.obs.Containers[c.Name]
	started := o.passedStartup(c)
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: o.ImageID, RestartCount: o.Attempt,
		Started: &started, Ready: p.containerReady(c, o),
	}
	if s.ImageID == "" {
		s.ImageID = p.pulled(c).ID
	}
	if o.ID != "" {
		s.ContainerID = IDScheme + o.ID
	}
	s.State, s.LastTerminationState.Terminated = p.containerState(c, o)
	if s.LastTerminationState.Terminated == nil {
		s.LastTerminationState.Terminated = o.Last
	}
	return s
}

// ephemeralStatuses: such a container is never ready, and nobody waits for its start.
func (p *planner) ephemeralStatuses() (out []corev1.ContainerStatus) {
	p.eachEphemeral(func(c *corev1.Container) {
		s := p.containerStatus(c)
		s.Ready, s.Started = false, nil
		out = append(out, s)
	})
	return out
}

// containerReady: an init container that has done its work counts as ready.
func (p *planner) containerReady(c *corev1.Container, o Container) bool {
	if p.isInit(c) && !Sidecar(c) {
		return o.State == Exited && o.ExitCode == 0
	}
	return o.ready(c)
}

// containerState is the container's state, and the last termination when the state itself does not show it.
func (p *planner) containerState(c *corev1.Container, o Container) (s corev1.ContainerState, last *corev1.ContainerStateTerminated) {
	switch {
	case o.State == Running:
		s.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(o.Started)}
		return s, nil
	case o.Ran && !o.Finished.IsZero():
		if waiting := p.waitsAgain(c, o); waiting != nil {
			s.Waiting = waiting
			return s, o.terminated()
		}
		s.Terminated = o.terminated()
		return s, nil
	default:
		s.Waiting = p.waits(c, o)
		return s, nil
	}
}

// terminated is the record of the current instance's end.
func (c Container) terminated() *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Signal: c.Signal, Reason: c.Reason, Message: c.Message,
		FinishedAt: metav1.NewTime(c.Finished), ContainerID: IDScheme + c.ID,
	}
	if !c.Started.IsZero() {
		t.StartedAt = metav1.NewTime(c.Started)
	}
	return t
}

// waitsAgain is why a container that has ended is not running again yet; nil when it will not, or is being started.
func (p *planner) waitsAgain(c *corev1.Container, o Container) *corev1.ContainerStateWaiting {
	if o.State != Exited || !p.restarts(c, o) || p.leaving() {
		return nil
	}
	if w := p.blocked(c, o); w != nil {
		return w
	}
	if p.obs.Paused != "" {
		return &corev1.ContainerStateWaiting{Reason: "Paused", Message: p.obs.Paused}
	}
	wait := p.crashWait(c, o)
	if wait == 0 || !after(o.Noticed, wait, p.now).After(p.now) {
		return nil
	}
	return &corev1.ContainerStateWaiting{
		Reason:  "CrashLoopBackOff",
		Message: backOffMessage("restarting failed container", wait, c.Name, p.pod),
	}
}

// leaving says whether nothing of the pod will be started again.
func (p *planner) leaving() bool {
	return !p.obs.StopSince.IsZero() || p.failed != "" || over(p.obs.Previous.Phase)
}

// waits is why a container has not run yet.
func (p *planner) waits(c *corev1.Container, o Container) *corev1.ContainerStateWaiting {
	if w := p.blocked(c, o); w != nil {
		return w
	}
	reason := "ContainerCreating"
	if len(p.pod.Spec.InitContainers) > 0 { // the kubelet says it of the init containers too
		reason = "PodInitializing"
	}
	return &corev1.ContainerStateWaiting{Reason: reason, Message: p.setUpMessage()}
}

// setUpMessage is what keeps the pod as a whole from starting.
func (p *planner) setUpMessage() string {
	if p.obs.Volumes.Message != "" {
		return p.obs.Volumes.Message
	}
	return p.obs.Sandbox.Message
}

// blocked is what failed on the way to an instance: the pull, or its creation; nil when nothing did.
func (p *planner) blocked(c *corev1.Container, o Container) *corev1.ContainerStateWaiting {
	reason, message := p.pullState(c)
	if reason == "" {
		reason, message = o.Create.Reason, o.Create.Message
	}
	if reason == "" {
		return nil
	}
	return &corev1.ContainerStateWaiting{Reason: reason, Message: message}
}

// pullState words a failed pull as the kubelet does: the failure itself at first, then the wait for the next try.
func (p *planner) pullState(c *corev1.Container) (reason, message string) {
	i := p.pulled(c)
	if i.State == Done || i.Reason == "" {
		return "", ""
	}
	if i.Reason != "ErrImagePull" && i.Reason != "RegistryUnavailable" {
		return i.Reason, i.Message
	}
	if shown := after(i.At, pullShown, p.now); shown.After(p.now) {
		p.at(shown)
		return i.Reason, i.Message
	}
	return "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, i.Reason, i.Message)
}
