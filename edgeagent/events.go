package edgeagent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/messaging"
)

// event reports something to people. Reasons and words are the kubelet's.
func (w *worker) event(p *corev1.Pod, container, kind, reason, message string) {
	err := w.node.report.Event(messaging.EventReport{
		Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID), Container: container,
		Type: kind, Reason: reason, Message: message, Time: time.Now(),
	})
	if err != nil {
		w.log.Warn("event not reported", "reason", reason, "err", err)
	}
}

// announce makes an event of a result that people want to know of.
func (w *worker) announce(r pod.Result) {
	if r.Err != nil {
		w.announceFailure(r)
		return
	}
	say := func(reason, message string) {
		w.event(w.want.Pod, r.Action.Container, corev1.EventTypeNormal, reason, message)
	}
	switch r.Action.Verb {
	case pod.PullImage:
		say("Pulled", fmt.Sprintf("Image %q is present on the node", r.Action.Message))
	case pod.StartContainer:
		say("Started", "Started container "+r.Action.Container)
	case pod.SignalContainer:
		say("Killing", fmt.Sprintf("Stopping container %s: %s", r.Action.Container, r.Action.Message))
	case pod.RunProbe:
		w.announceProbe(r)
	default:
	}
}

// announceProbe tells of the first failure of a row; the others say nothing new.
func (w *worker) announceProbe(r pod.Result) {
	if r.Passed || w.obs.Containers[r.Action.Container].Probes[r.Action.Probe].Failed+1 != w.failuresToTell(r.Action) {
		return
	}
	kind := strings.ToUpper(string(r.Action.Probe[:1])) + string(r.Action.Probe[1:])
	w.event(w.want.Pod, r.Action.Container, corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+r.Output)
}

// failuresToTell is how many failures in a row are news: one, or as many as decide while a container that just started has
// never been asked with success whether it is ready.
func (w *worker) failuresToTell(a pod.Action) int {
	if a.Probe != pod.Readiness || w.obs.Containers[a.Container].Probes[a.Probe].Verdict != pod.Undecided {
		return 1
	}
	c := pod.Spec(w.want.Pod, a.Container)
	if c == nil || c.ReadinessProbe == nil {
		return 1
	}
	return max(1, int(c.ReadinessProbe.FailureThreshold))
}

// failureReasons are those of events about steps that did not work. What has none tells of it in another way.
var failureReasons = map[pod.Verb]string{
	pod.PullImage: "Failed", pod.StartContainer: "Failed", pod.CreateSandbox: "FailedCreatePodSandBox",
	pod.PrepareVolumes: "FailedMount", pod.SignalContainer: "FailedKillPod", pod.KillContainer: "FailedKillPod",
	pod.RemoveSandbox: "FailedKillPod", pod.RemoveVolumes: "FailedKillPod", pod.RemoveContainer: "FailedKillPod",
}

// actionPatience is how long a step may take before people are told that it is not done: the kubelet's patience with a runtime.
// It is not given up then: a keeper or a file system that hangs would hang once more, and for each asking that nobody waits for any more it would
// keep a place for ever. It ends with its keeper.
const actionPatience = 2 * time.Minute

// announceDelay tells of a step that is not done.
func (w *worker) announceDelay(a pod.Action) {
	w.log.Warn("action not done yet", "action", a.String(), "after", actionPatience)
	if a.Verb == pod.PullImage || a.Verb == pod.SignalContainer || failureReasons[a.Verb] == "" {
		return // takes the time that a registry, a hook or a probe needs
	}
	w.event(w.want.Pod, a.Container, corev1.EventTypeWarning, failureReasons[a.Verb], fmt.Sprintf("%s is not done after %s, still waiting", a.Verb, actionPatience))
}

func (w *worker) announceFailure(r pod.Result) {
	reason := failureReasons[r.Action.Verb]
	if reason == "" || errors.Is(r.Err, device.ErrTooFew) || !w.node.events.allow(w.uid+r.Action.Container+string(r.Action.Verb)+r.Err.Error(), time.Now()) {
		return
	}
	message := r.Err.Error()
	if r.Action.Verb == pod.PullImage {
		message = fmt.Sprintf("Failed to pull image %q: %s", r.Action.Message, message)
	}
	w.event(w.want.Pod, r.Action.Container, corev1.EventTypeWarning, reason, message)
}
