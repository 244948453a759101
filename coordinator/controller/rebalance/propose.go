package rebalance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/scheduler"
)

// What a move costs, in the unit of gain.
const (
	costRestart = 0.005 // a pod starts anew
	costImage   = 0.005 // and its image has to travel
)

// weightSpread is what the spread of an owner's pods counts for beside the nodes' loads.
const weightSpread = 0.5

// targets is how many of the least loaded nodes are tried for each pod.
const targets = 8

// longestList bounds a dry run.
const longestList = 50

// Report is what the rebalancer thinks of the fleet.
type Report struct {
	Imbalance float64            // standard deviation of the loads of the nodes that count
	Nodes     []NodeLoad         // all nodes by name
	Moves     []api.MovePlanSpec // in the order in which they would be made, each on the result of those before
	Skipped   []Skip             // pods on nodes that count which may not be moved
	Held      string             // why no move begins now; empty when the first one would

	wake time.Time
}

// Skip is a pod that stays, and why.
type Skip struct{ Namespace, Pod, Why string }

// Propose is the whole plan without doing anything: what `skerry rebalance --dry-run` shows.
func Propose(s *controller.Snapshot, now time.Time, o Options) Report {
	p := &planner{Options: o.withDefaults(), s: s, now: now}
	p.index()
	for _, m := range s.Moves {
		if !finished(m) {
			p.busy++
		}
	}
	return p.propose(longestList)
}

func (p *planner) propose(limit int) Report {
	fleet := p.fleet()
	f := p.field(fleet)
	report := Report{Imbalance: f.imbalance()}
	for _, load := range f.loads {
		report.Nodes = append(report.Nodes, *load)
	}
	report.Held, report.wake = p.held(f)
	if report.Held != "" && limit == 1 {
		report.wake = controller.Sooner(report.wake, p.wake)
		return report
	}
	candidates, skipped := p.candidates(fleet, f)
	report.Skipped = skipped
	spread := newSpread(p.byOwner)
	for len(report.Moves) < limit {
		best := p.best(f, spread, candidates)
		if best == nil {
			break
		}
		report.Moves = append(report.Moves, best.spec())
		best.ask.Move(best.from.Name, best.to.Name)
		f.move(best.from, best.to, best.fromShare, best.toShare)
		spread.move(best.owner.UID, best.from.Name, best.to.Name)
		candidates = slices.DeleteFunc(candidates, func(c candidate) bool { return c.pod == best.pod })
	}
	report.wake = controller.Sooner(report.wake, p.wake)
	return report
}

// held is why no move may begin now.
func (p *planner) held(f *field) (why string, wake time.Time) {
	switch {
	case p.Disabled:
		return "rebalancing is switched off", time.Time{}
	case p.busy > 0:
		return "a move is under way", time.Time{}
	case f.n < 2:
		return "fewer than two nodes can take part", time.Time{}
	}
	for _, m := range p.s.Moves {
		if due := finishTime(m).Add(p.CoolDown); due.After(p.now) {
			why = "the last move ended at " + finishTime(m).UTC().Format(time.TimeOnly)
			wake = controller.Sooner(wake, due)
		}
	}
	return why, wake
}

// candidate is a pod that may be moved.
type candidate struct {
	pod   *corev1.Pod
	owner *appsv1.ReplicaSet
	from  *NodeLoad
	ask   *scheduler.Asker
}

// candidates are the pods that may be moved, and why the others may not.
func (p *planner) candidates(fleet *scheduler.Fleet, f *field) ([]candidate, []Skip) {
	var found []candidate
	var skipped []Skip
	for _, pod := range p.s.Pods {
		from := f.byName[pod.Spec.NodeName]
		if from == nil || from.Excluded != "" || !controller.PodActive(pod) {
			continue
		}
		if why := p.unsuitable(pod); why != "" {
			skipped = append(skipped, Skip{pod.Namespace, pod.Name, why})
			continue
		}
		found = append(found, candidate{pod, p.owner(pod), from, fleet.Ask(pod)})
	}
	return found, skipped
}

// unsuitable is why a pod may not be moved.
func (p *planner) unsuitable(pod *corev1.Pod) string {
	rs := p.owner(pod)
	switch {
	case rs == nil:
		return "no ReplicaSet would keep it"
	case pod.Annotations[api.AnnotationPinned] == "true":
		return "it is pinned"
	case pod.Annotations[api.AnnotationSingleton] == "true":
		return "it is a singleton and may not run twice"
	case !controller.PodReady(pod):
		return "it is not ready"
	case controller.Standby(pod, p.byOwner[rs.UID]):
		return "it is itself a replacement in the making"
	case p.rests(pod):
		return "it was moved lately"
	case !settled(rs):
		return "its ReplicaSet is changing"
	case p.rollingOut(rs):
		return "its Deployment is rolling out"
	case len(p.budgets.Of(pod)) > 1:
		return "it has more than one disruption budget"
	}
	return localData(pod)
}

// rests reports whether the pod was itself moved within Rest.
func (p *planner) rests(pod *corev1.Pod) bool {
	if pod.Annotations[api.AnnotationReplaces] == "" {
		return false
	}
	due := pod.CreationTimestamp.Add(p.Rest)
	if due.After(p.now) {
		p.wake = controller.Sooner(p.wake, due)
		return true
	}
	return false
}

// settled reports whether the set has exactly what it asks for.
func settled(rs *appsv1.ReplicaSet) bool {
	want := int32(1)
	if rs.Spec.Replicas != nil {
		want = *rs.Spec.Replicas
	}
	return rs.DeletionTimestamp == nil && rs.Status.ObservedGeneration >= rs.Generation && rs.Status.Replicas == want && rs.Status.AvailableReplicas == want
}

func (p *planner) rollingOut(rs *appsv1.ReplicaSet) bool {
	ref := metav1.GetControllerOfNoCopy(rs)
	if ref == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(p.s.Deployments, [2]string{rs.Namespace, ref.Name}, func(d *appsv1.Deployment, key [2]string) int {
		return cmp.Or(cmp.Compare(d.Namespace, key[0]), cmp.Compare(d.Name, key[1]))
	})
	if !found {
		return false
	}
	d := p.s.Deployments[i]
	return d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas != d.Status.Replicas
}

// localData names a volume that the pod would lose.
func localData(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil || v.HostPath != nil {
			return fmt.Sprintf("it keeps data on its node (volume %s)", v.Name)
		}
	}
	return ""
}

// trial is one pod's move to one node, in thought.
type trial struct {
	candidate
	to                 *NodeLoad
	fromShare, toShare float64
	here, total        int // pods of the owner on from, and in all
	gain, cost         float64
}

func (t *trial) net() float64 { return t.gain - t.cost }

// best is the move with the highest gain less cost; nil when none is worth it.
func (p *planner) best(f *field, spread *spread, candidates []candidate) *trial {
	tos := leastLoaded(f)
	var best *trial
	tried := map[[2]string]bool{}
	for _, c := range candidates {
		key := [2]string{string(c.owner.UID), c.from.Name}
		if tried[key] {
			continue // pods of one owner on one node are alike
		}
		tried[key] = true
		for _, to := range tos {
			t := p.try(f, spread, c, to)
			if t == nil || t.net() < p.MinGain || best != nil && t.net() <= best.net() {
				continue
			}
			if due := p.backOff(string(c.owner.UID), to.Name); due.After(p.now) {
				p.wake = controller.Sooner(p.wake, due)
				continue
			}
			if c.ask.Refused(to.Name) == "" {
				best = t
			}
		}
	}
	return best
}

func leastLoaded(f *field) []*NodeLoad {
	var tos []*NodeLoad
	for _, load := range f.loads {
		if load.Excluded == "" {
			tos = append(tos, load)
		}
	}
	slices.SortStableFunc(tos, func(a, b *NodeLoad) int { return cmp.Compare(a.Load, b.Load) })
	return tos[:min(len(tos), targets)]
}

func (p *planner) try(f *field, spread *spread, c candidate, to *NodeLoad) *trial {
	if to == c.from {
		return nil
	}
	t := &trial{candidate: c, to: to, fromShare: c.ask.Share(c.from.Name), toShare: c.ask.Share(to.Name), cost: costRestart}
	var closer float64
	t.here, t.total, closer = spread.gain(c.owner.UID, c.from.Name, to.Name)
	t.gain = f.imbalance() - f.after(c.from, to, t.fromShare, t.toShare) + weightSpread*closer
	if !c.ask.HasImages(to.Name) {
		t.cost += costImage
	}
	return t
}

func (t *trial) spec() api.MovePlanSpec {
	return api.MovePlanSpec{
		Pod:  corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: t.pod.Namespace, Name: t.pod.Name, UID: t.pod.UID},
		From: t.from.Name, To: t.to.Name, Gain: t.gain, Cost: t.cost,
		Reason: fmt.Sprintf("%s carries %.0f%% and %s %.0f%%, %d of %d pods of %s are on %s", t.from.Name, 100*t.from.Load, t.to.Name, 100*t.to.Load, t.here, t.total, t.owner.Name, t.from.Name),
	}
}

// spread counts the active pods of each owner on each node.
type spread struct {
	counts map[types.UID]map[string]int
	totals map[types.UID]int
}

func newSpread(byOwner map[types.UID][]*corev1.Pod) *spread {
	s := &spread{counts: map[types.UID]map[string]int{}, totals: map[types.UID]int{}}
	for owner, pods := range byOwner {
		if owner == "" {
			continue
		}
		s.counts[owner] = map[string]int{}
		for _, pod := range pods {
			if controller.PodActive(pod) && pod.Spec.NodeName != "" {
				s.counts[owner][pod.Spec.NodeName]++
				s.totals[owner]++
			}
		}
	}
	return s
}

// gain is how much less concentrated the owner's pods are after a move: the drop of the sum of the squares of the nodes'
// shares (Herfindahl index), which is 1 when all are on one node and 1/n when n nodes have the same number.
func (s *spread) gain(owner types.UID, from, to string) (here, total int, gain float64) {
	here, total = s.counts[owner][from], s.totals[owner]
	there := s.counts[owner][to]
	if total == 0 {
		return here, total, 0
	}
	before := here*here + there*there
	after := (here-1)*(here-1) + (there+1)*(there+1)
	return here, total, float64(before-after) / float64(total*total)
}

func (s *spread) move(owner types.UID, from, to string) {
	s.counts[owner][from]--
	s.counts[owner][to]++
}
