package rebalance

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Phases of a MovePlan.
const (
	Planned  = "Planned"
	Starting = "Starting"
	Stopping = "Stopping"
	Done     = "Done"
	Failed   = "Failed"
)

// labelOwner on a MovePlan is the UID of the ReplicaSet whose pod it moves.
const labelOwner = "skerry.dev/owner"

// annotationMove on a replacement is the name of the MovePlan that it was started for.
const annotationMove = "skerry.dev/move"

// planner is one run of the plan.
type planner struct {
	Options
	s       *controller.Snapshot
	now     time.Time
	pods    map[types.UID]*corev1.Pod
	byOwner map[types.UID][]*corev1.Pod
	sets    map[types.UID]*appsv1.ReplicaSet
	nodes   map[string]*corev1.Node
	budgets *controller.Budgets
	busy    int // moves that were under way before this run
	changes []controller.Change
	wake    time.Time
}

func (p *planner) index() {
	p.byOwner = controller.PodsByOwner(p.s.Pods)
	p.pods = make(map[types.UID]*corev1.Pod, len(p.s.Pods))
	for _, pod := range p.s.Pods {
		p.pods[pod.UID] = pod
	}
	p.sets = make(map[types.UID]*appsv1.ReplicaSet, len(p.s.ReplicaSets))
	for _, rs := range p.s.ReplicaSets {
		p.sets[rs.UID] = rs
	}
	p.budgets = controller.NewBudgets(controller.Rest[*policyv1.PodDisruptionBudget](p.s, controller.BudgetKind))
	p.nodes = make(map[string]*corev1.Node, len(p.s.Nodes))
	for _, n := range p.s.Nodes {
		p.nodes[n.Name] = n
	}
}

func finished(m *api.MovePlan) bool { return m.Status.Phase == Done || m.Status.Phase == Failed }

// owner is the ReplicaSet of a pod, nil when it has none.
func (p *planner) owner(pod *corev1.Pod) *appsv1.ReplicaSet {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil
	}
	return p.sets[ref.UID]
}

// sweep deletes standbys that no move waits for: those of moves that failed or were deleted.
func (p *planner) sweep() {
	wanted := map[types.UID]bool{}
	for _, m := range p.s.Moves {
		if !finished(m) {
			wanted[m.Spec.Pod.UID] = true
		}
	}
	for _, pods := range p.byOwner {
		for _, pod := range pods {
			replaced := types.UID(pod.Annotations[api.AnnotationReplaces])
			if replaced != "" && !wanted[replaced] && controller.PodActive(pod) && p.owner(pod) != nil && controller.Standby(pod, pods) {
				p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: pod})
			}
		}
	}
}

// forget deletes the oldest finished moves.
func (p *planner) forget() {
	var old []*api.MovePlan
	for _, m := range p.s.Moves {
		if finished(m) && m.DeletionTimestamp == nil {
			old = append(old, m)
		}
	}
	slices.SortFunc(old, func(a, b *api.MovePlan) int {
		return cmp.Or(finishTime(a).Compare(finishTime(b)), cmp.Compare(a.Name, b.Name))
	})
	for _, m := range old[:max(0, len(old)-p.History)] {
		p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: m})
	}
}

func finishTime(m *api.MovePlan) time.Time {
	if m.Status.Finished == nil {
		return time.Time{}
	}
	return m.Status.Finished.Time
}

// begin stores the best move, if there is one and it is time for it.
func (p *planner) begin() {
	report := p.propose(1)
	p.wake = controller.Sooner(p.wake, report.wake)
	if report.Held != "" || len(report.Moves) == 0 {
		return
	}
	best := report.Moves[0]
	p.changes = append(p.changes, controller.Change{Verb: controller.Create, Object: p.newMove(best)})
}

func (p *planner) newMove(spec api.MovePlanSpec) *api.MovePlan {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s/%d", spec.Pod.UID, spec.To, p.s.Revision)
	m := &api.MovePlan{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("move-%08x", h.Sum32()), Labels: map[string]string{}},
		Spec:       spec, Status: api.MovePlanStatus{Phase: Planned},
	}
	if pod := p.pods[spec.Pod.UID]; pod != nil {
		if rs := p.owner(pod); rs != nil {
			m.Labels[labelOwner] = string(rs.UID)
		}
	}
	return m
}
