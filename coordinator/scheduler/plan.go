package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Finish completes a pass of plans: pods that changes creates are given their node before they are written, so that they
// are created already bound, and pods that wait in the snapshot are bound or told why not; pods of lower priority that
// have to go for them are deleted, gracefully. What cannot be placed is created without a node, and says why in the next
// pass.
func Finish(s *controller.Snapshot, changes []controller.Change, now time.Time) []controller.Change {
	in := Input{Nodes: s.Nodes, Namespaces: s.Namespaces, Leaving: map[*corev1.Pod]bool{}, Now: now}
	in.readStorage(s)
	in.Budgets = controller.Rest[*policyv1.PodDisruptionBudget](s, controller.BudgetKind)
	waiting := stored(s, changes, &in)
	created := fresh(s, changes, &in)
	if len(in.Pending) == 0 {
		return changes
	}
	out := append([]controller.Change(nil), changes...)
	for pod, i := range created {
		out[i].Object = pod
	}
	claims := newConsumers(&in)
	for _, d := range Place(in) {
		if d.Node != "" && len(d.Pod.Spec.Volumes) > 0 && claims.choose(d) {
			continue // until its claims have their volumes
		}
		if i, isNew := created[d.Pod]; isNew {
			out[i] = createBound(out[i], d, now)
		} else if waiting[d.Pod] {
			out = append(out, settle(d, now)...)
		}
	}
	return append(out, claims.changes...)
}

// Plan binds the pods that wait in the snapshot, for who has no other changes in hand.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	return Finish(s, nil, now), time.Time{}
}

// stored sorts the snapshot's pods into bound and waiting ones, without those that are about to be deleted.
func stored(s *controller.Snapshot, changes []controller.Change, in *Input) map[*corev1.Pod]bool {
	leaving := map[string]bool{}
	for _, c := range changes {
		if pod, ok := c.Object.(*corev1.Pod); ok && (c.Verb == controller.Delete || c.Verb == controller.Evict) {
			leaving[pod.Namespace+"/"+pod.Name] = true
		}
	}
	waiting := map[*corev1.Pod]bool{}
	for _, pod := range s.Pods {
		going := len(leaving) > 0 && leaving[pod.Namespace+"/"+pod.Name]
		switch {
		case pod.Spec.NodeName != "":
			in.Bound = append(in.Bound, pod)
			if going {
				in.Leaving[pod] = true
			}
		case Waits(pod) && !going:
			in.Pending = append(in.Pending, pod)
			waiting[pod] = true
		}
	}
	return waiting
}

// fresh finds the pods that changes creates, with their place in it and the priority that they will get; those that have
// a node already use it.
func fresh(s *controller.Snapshot, changes []controller.Change, in *Input) map[*corev1.Pod]int {
	created := map[*corev1.Pod]int{}
	for i, c := range changes {
		pod, ok := c.Object.(*corev1.Pod)
		if !ok || c.Verb != controller.Create {
			continue
		}
		pod = withPriority(s, pod)
		if pod.Spec.NodeName != "" {
			in.Bound = append(in.Bound, pod)
		} else if Waits(pod) {
			in.Pending = append(in.Pending, pod)
			created[pod] = i
		}
	}
	return created
}

func createBound(c controller.Change, d Decision, now time.Time) controller.Change {
	if d.Node == "" {
		return c
	}
	pod, event := assign(d, now)
	c.Object = pod
	c.Events = append(slices.Clip(c.Events), event)
	return c
}

// settle binds the pod, or says why not when that is news. Victims are sent away whenever the decision names them: what
// of it was done in an earlier pass is not decided again, because a pod that is being deleted is nobody's victim.
func settle(d Decision, now time.Time) []controller.Change {
	if d.Node != "" {
		pod, event := assign(d, now)
		return []controller.Change{{Verb: controller.Bind, Object: pod, Events: []controller.Event{event}}}
	}
	var changes []controller.Change
	for _, victim := range d.Victims {
		changes = append(changes, evict(victim, d, now)...)
	}
	return append(changes, refuse(d, now)...)
}

// refuse writes into the pod why it has no node and which one it waits for.
func refuse(d Decision, now time.Time) []controller.Change {
	pod := d.Pod.DeepCopy()
	pod.Status.NominatedNodeName = d.Nominated
	changed := d.Nominated != d.Pod.Status.NominatedNodeName
	c := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: d.Message}
	var events []controller.Event
	if !waitsAsBefore(d) && controller.SetPodCondition(&pod.Status, c, now) {
		changed = true
		events = []controller.Event{{
			Regarding: controller.PodReference(d.Pod), Type: corev1.EventTypeWarning, Reason: "FailedScheduling", Message: d.Message, Component: api.ComponentScheduler,
		}}
	}
	if !changed {
		return nil
	}
	return []controller.Change{{Verb: controller.Status, Object: pod, Events: events}}
}

// waitsAsBefore is a pod whose victims are on their way: what it says about them stays.
func waitsAsBefore(d Decision) bool {
	c := controller.PodCondition(d.Pod, corev1.PodScheduled)
	return d.Nominated != "" && len(d.Victims) == 0 && d.Nominated == d.Pod.Status.NominatedNodeName && c != nil && c.Status == corev1.ConditionFalse
}

// evict deletes a victim of preemption and says in it why, as upstream.
func evict(victim *corev1.Pod, d Decision, now time.Time) []controller.Change {
	told := victim.DeepCopy()
	c := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message: Name + ": preempting to accommodate a higher priority pod",
	}
	var changes []controller.Change
	if controller.SetPodCondition(&told.Status, c, now) {
		changes = append(changes, controller.Change{Verb: controller.Status, Object: told})
	}
	return append(changes, controller.Change{Verb: controller.Delete, Object: victim, Events: []controller.Event{{
		Regarding: controller.PodReference(victim), Type: corev1.EventTypeNormal, Reason: "Preempted",
		Message: fmt.Sprintf("Preempted by pod %s on node %s", d.Pod.UID, d.Nominated), Component: api.ComponentScheduler,
	}}})
}

func assign(d Decision, now time.Time) (*corev1.Pod, controller.Event) {
	pod := d.Pod.DeepCopy()
	pod.Spec.NodeName = d.Node
	pod.Status.NominatedNodeName = ""
	pod.Annotations = maps.Clone(pod.Annotations)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[api.AnnotationPlacement] = d.Why()
	controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, now)
	return pod, Scheduled(pod)
}

// Scheduled is the event for a pod that has got its node.
func Scheduled(pod *corev1.Pod) controller.Event {
	return controller.Event{
		Regarding: controller.PodReference(pod), Type: corev1.EventTypeNormal, Reason: "Scheduled",
		Message:   fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, pod.Spec.NodeName),
		Component: api.ComponentScheduler,
	}
}
