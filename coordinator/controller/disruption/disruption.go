// Package disruption keeps the status of PodDisruptionBudgets: how many of the pods that each selects are healthy, how
// many must be, and how many may be evicted now. It evicts nothing itself; the eviction subresource in coordinator/objects
// counts a budget down, and this plan counts it up again when the pods that were evicted are gone.
package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/apps/poddisruptionbudget"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// How long upstream waits for what an eviction promised.
const (
	// deletionTimeout is after when a pod that was to be evicted and still is not being deleted counts again.
	deletionTimeout = 2 * time.Minute
	// staleTimeout is after when a pod that was told that it would be disrupted is told that it will not.
	staleTimeout = 2 * time.Minute
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	reads := controller.Pods | controller.ReplicaSets | controller.Deployments | controller.StatefulSets
	return controller.Controller{
		Name: "disruption", Reads: reads, Rest: []schema.GroupKind{controller.BudgetKind, controller.ReplicationControllerKind}, Plan: Plan,
	}
}

// Plan writes the status of every budget that is not up to date.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{s: s, now: now}
	for _, b := range controller.Rest[*policyv1.PodDisruptionBudget](s, controller.BudgetKind) {
		p.plan(b)
	}
	for _, pod := range s.Pods {
		p.calm(pod)
	}
	return p.changes, p.wake
}

type planner struct {
	s       *controller.Snapshot
	now     time.Time
	changes []controller.Change
	wake    time.Time
	late    []controller.Event // of pods that were not deleted in time, of the budget at hand
}

func (p *planner) plan(b *policyv1.PodDisruptionBudget) {
	p.late = nil
	pods, status, err := p.observe(b)
	if err != nil {
		status = p.failed(b, err)
	}
	if equality.Semantic.DeepEqual(b.Status, status) {
		return
	}
	change := controller.Change{Verb: controller.Status, Object: withStatus(b, status), Events: p.late}
	switch {
	case err != nil:
		change.Events = []controller.Event{event(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: "+err.Error())}
	case len(pods) == 0:
		change.Events = []controller.Event{event(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")}
	}
	p.changes = append(p.changes, change)
}

func withStatus(b *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) *policyv1.PodDisruptionBudget {
	updated := b.DeepCopy()
	updated.Status = status
	return updated
}

// observe is the budget's pods and the status that follows from them.
func (p *planner) observe(b *policyv1.PodDisruptionBudget) ([]*corev1.Pod, policyv1.PodDisruptionBudgetStatus, error) {
	pods, err := p.selected(b)
	if err != nil {
		return nil, policyv1.PodDisruptionBudgetStatus{}, err
	}
	expected, desired, err := p.demand(b, pods)
	if err != nil {
		return nil, policyv1.PodDisruptionBudgetStatus{}, err
	}
	updated := b.DeepCopy() // for the conditions, whose transition times stay where they can
	updated.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: b.Generation, ExpectedPods: expected, DesiredHealthy: desired,
		DisruptedPods: p.disrupted(b, pods), Conditions: updated.Status.Conditions,
	}
	status := &updated.Status
	status.CurrentHealthy = healthy(pods, status.DisruptedPods)
	if expected > 0 { // a budget without pods allows nothing, so that it is safe when its first ones come
		status.DisruptionsAllowed = max(0, status.CurrentHealthy-desired)
	}
	poddisruptionbudget.UpdateDisruptionAllowedCondition(updated)
	p.stamp(b.Status.Conditions, status.Conditions)
	return pods, updated.Status, nil
}

// stamp gives conditions that changed the time of the plan: upstream's function looks at the clock.
func (p *planner) stamp(before, now []metav1.Condition) {
	for i := range now {
		old := apimeta.FindStatusCondition(before, now[i].Type)
		if old == nil || old.Status != now[i].Status {
			now[i].LastTransitionTime = metav1.NewTime(p.now).Rfc3339Copy()
		}
	}
}

func (p *planner) selected(b *policyv1.PodDisruptionBudget) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	var pods []*corev1.Pod
	for _, pod := range controller.Within(p.s.Pods, b.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// disrupted are the pods that evictions have promised to delete and that are not being deleted yet.
func (p *planner) disrupted(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) map[string]metav1.Time {
	var promised map[string]metav1.Time
	for _, pod := range pods {
		at, found := b.Status.DisruptedPods[pod.Name]
		if !found || pod.DeletionTimestamp != nil {
			continue
		}
		due := at.Add(deletionTimeout)
		if !due.After(p.now) {
			p.late = append(p.late, controller.Event{
				Regarding: controller.PodReference(pod), Type: corev1.EventTypeWarning, Reason: "NotDeleted", Component: api.ComponentController,
				Message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name),
			})
			continue
		}
		p.wake = controller.Sooner(p.wake, due)
		if promised == nil {
			promised = map[string]metav1.Time{}
		}
		promised[pod.Name] = at
	}
	return promised
}

func healthy(pods []*corev1.Pod, promised map[string]metav1.Time) (count int32) {
	for _, pod := range pods {
		if _, leaves := promised[pod.Name]; !leaves && pod.DeletionTimestamp == nil && controller.PodReady(pod) {
			count++
		}
	}
	return count
}

// failed is the status of a budget that cannot be worked out: it allows nothing and says why.
func (p *planner) failed(b *policyv1.PodDisruptionBudget, err error) policyv1.PodDisruptionBudgetStatus {
	status := b.DeepCopy().Status
	status.DisruptionsAllowed = 0
	apimeta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: err.Error(), ObservedGeneration: status.ObservedGeneration, LastTransitionTime: metav1.NewTime(p.now).Rfc3339Copy(),
	})
	return status
}

// calm takes back a pod's condition that it is about to be disrupted, when nothing came of it.
func (p *planner) calm(pod *corev1.Pod) {
	c := controller.PodCondition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue || c.Reason == corev1.PodReasonTerminationByKubelet || !controller.PodActive(pod) {
		return
	}
	if due := c.LastTransitionTime.Add(staleTimeout); due.After(p.now) {
		p.wake = controller.Sooner(p.wake, due)
		return
	}
	updated := pod.DeepCopy()
	controller.SetPodCondition(&updated.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse}, p.now)
	p.changes = append(p.changes, controller.Change{Verb: controller.Status, Object: updated})
}

func event(b *policyv1.PodDisruptionBudget, kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "policy/v1", Kind: "PodDisruptionBudget", Namespace: b.Namespace, Name: b.Name, UID: b.UID, ResourceVersion: b.ResourceVersion},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
