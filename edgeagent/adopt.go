package edgeagent

import (
	"context"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/uplink"
)

// inheritance is what an earlier agent, or an earlier life of the node, left of a pod.
type inheritance struct {
	memory     checkpoint.Memory
	containers []keeper.Container
}

// lastStatus is what is remembered of a pod; nothing, if that cannot be read.
func lastStatus(m checkpoint.Memory) corev1.PodStatus {
	var s corev1.PodStatus
	if s.Unmarshal(m.Status) != nil {
		return corev1.PodStatus{}
	}
	return s
}

// finished says whether a pod of that phase has come to its end.
func finished(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// inherit makes the observed state from what was left. Instances that run are taken as they are; what is remembered but
// unknown to the keeper has ended with the node.
func (w *worker) inherit(ctx context.Context, in inheritance) {
	w.obs.Volumes.Dirty, w.obs.Sandbox.Dirty = true, true
	w.obs.Containers = map[string]pod.Container{}
	if err := w.obs.Previous.Unmarshal(in.memory.Status); err != nil {
		w.log.Error("memory of the pod unreadable, starting afresh", "err", err)
		w.obs.Previous = corev1.PodStatus{}
	}
	for _, ip := range w.obs.Previous.PodIPs {
		w.obs.PodIPs = append(w.obs.PodIPs, ip.IP)
	}
	remembered := statuses(&w.obs.Previous)
	for name, status := range remembered {
		if c, ok := recall(status, time.Now()); ok {
			c.Crashes = in.memory.Crashes[name]
			w.obs.Containers[name] = c
		}
	}
	w.inheritInstances(ctx, in, remembered)
}

// inheritInstances takes the latest instance of each container that the keeper has. Older ones, and those that were made
// but never started, are to be removed.
func (w *worker) inheritInstances(ctx context.Context, in inheritance, remembered map[string]*corev1.ContainerStatus) {
	slices.SortFunc(in.containers, func(a, b keeper.Container) int { return int(attemptOf(a) - attemptOf(b)) })
	for _, k := range in.containers {
		name := k.Labels[containerspec.LabelContainer]
		old := w.obs.Containers[name]
		if k.State == keeper.Created || (old.Ran && old.Attempt > attemptOf(k)) {
			w.stale = append(w.stale, k.ID)
			continue
		}
		c := found(k)
		c.Crashes = in.memory.Crashes[name]
		switch s := remembered[name]; {
		case old.Ran && old.Attempt < c.Attempt:
			c.Last = termination(old)
			w.stale = append(w.stale, old.ID)
		case s != nil:
			c.Last = s.LastTerminationState.Terminated
		}
		w.obs.Containers[name] = c
		if k.Exit != nil {
			w.obs.Exited(name, w.exit(ctx, *k.Exit, c.Attempt, c.Started), time.Now())
		}
	}
}

func statuses(s *corev1.PodStatus) map[string]*corev1.ContainerStatus {
	out := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			out[list[i].Name] = &list[i]
		}
	}
	return out
}

// recall makes a container of a remembered status. An instance that ran when the status was written, and of which the
// keeper knows nothing, has ended unseen.
func recall(s *corev1.ContainerStatus, now time.Time) (pod.Container, bool) {
	if len(s.ContainerID) <= len(pod.IDScheme) {
		return pod.Container{}, false
	}
	c := pod.Container{
		State: pod.Exited, ID: s.ContainerID[len(pod.IDScheme):], ImageID: s.ImageID, Attempt: s.RestartCount, Ran: true,
		Last: s.LastTerminationState.Terminated,
	}
	end := s.State.Terminated
	if s.State.Waiting != nil {
		end, c.Last = s.LastTerminationState.Terminated, nil
	}
	if end == nil {
		end = &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: pod.StatusUnknown, FinishedAt: metav1.NewTime(now),
			Message: "The container could not be located when the node started",
		}
		if s.State.Running != nil {
			end.StartedAt = s.State.Running.StartedAt
		}
	}
	c.Started, c.Finished = end.StartedAt.Time, end.FinishedAt.Time
	c.ExitCode, c.Signal, c.Reason, c.Message = end.ExitCode, end.Signal, end.Reason, end.Message
	c.Noticed = now.Add(-max(0, now.Sub(c.Finished)))
	c.Lost = end.Reason == pod.StatusUnknown
	return c, true
}

// attemptOf reads the restart count that this package wrote into an instance's labels.
func attemptOf(k keeper.Container) int32 {
	attempt, err := strconv.ParseInt(k.Labels[containerspec.LabelAttempt], 10, 32)
	if err != nil {
		return 0
	}
	return int32(attempt)
}

func found(k keeper.Container) pod.Container {
	started := k.StartedAt
	if started.IsZero() {
		started = k.CreatedAt
	}
	return pod.Container{
		State: pod.Running, ID: k.ID, ImageID: k.Labels[containerspec.LabelImageID], Hash: k.Labels[containerspec.LabelHash],
		Attempt: attemptOf(k), Ran: true, Started: started,
	}
}

func termination(c pod.Container) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Signal: c.Signal, Reason: c.Reason, Message: c.Message,
		StartedAt: metav1.NewTime(c.Started), FinishedAt: metav1.NewTime(c.Finished), ContainerID: pod.IDScheme + c.ID,
	}
}

// takeOver makes sure of the sandbox that running containers are in before the first status is made, so that a new agent
// does not report them as unready for a moment.
func (w *worker) takeOver(ctx context.Context) {
	for _, id := range w.stale {
		if err := w.node.removeInstance(ctx, id); err != nil {
			w.log.Warn("instance of before not removed", "id", id, "err", err)
		}
	}
	w.stale = nil
	if w.want.Pod.DeletionTimestamp != nil {
		w.stop(time.Now())
	}
	if !w.anyRunning() {
		return
	}
	w.log.Info("pod adopted")
	w.obs.Volumes.State = pod.Done
	now := time.Now()
	w.holdUntil = now.Add(adoptionPatience)
	action := pod.Action{Verb: pod.CreateSandbox}
	w.obs.Begin(action, now)
	j := w.job(action)
	r := j.perform(ctx)
	w.keep(j, r)
	w.result(r)
}

func (w *worker) anyRunning() bool {
	for _, c := range w.obs.Containers {
		if c.State == pod.Running {
			return true
		}
	}
	return false
}

// orphan makes a pod of the labels of containers whose pod nobody knows any more, good enough to stop them.
func orphan(uid string, containers []keeper.Container) uplink.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: uid}}
	seen := map[string]bool{}
	for _, c := range containers {
		name := c.Labels[containerspec.LabelContainer]
		if !seen[name] {
			seen[name] = true
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name})
		}
		p.Namespace, p.Name = c.Labels[containerspec.LabelNamespace], c.Labels[containerspec.LabelPod]
	}
	return uplink.Pod{Pod: p}
}
