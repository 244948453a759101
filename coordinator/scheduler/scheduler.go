// Package scheduler decides on which node each pending pod runs, and says why or why not in words. Place is a pure
// function of nodes and pods; Plan and Finish turn its decisions into changes. It starts nothing and watches nothing:
// package controller does.
package scheduler

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Name is the spec.schedulerName that this scheduler serves.
const Name = corev1.DefaultSchedulerName

// Input is what a placement depends on. Neither the order of the slices nor anything else does matter.
type Input struct {
	Nodes      []*corev1.Node
	Namespaces []*corev1.Namespace // for the namespace selectors of pod affinity; one that is missing has no labels
	Bound      []*corev1.Pod       // pods that have a node; those that have finished use nothing
	Pending    []*corev1.Pod       // pods to place, each at most once
	Claims     []*corev1.PersistentVolumeClaim
	Volumes    []*corev1.PersistentVolume
	Classes    []*storagev1.StorageClass
	Budgets    []*policyv1.PodDisruptionBudget // which preemption breaks only where nothing else helps
	Leaving    map[*corev1.Pod]bool            // bound pods that are about to be deleted, beside those that are being deleted
	Now        time.Time
}

// Decision is what becomes of one pending pod. Node is empty when no node can take it now; then Message says why, in
// kube-scheduler's words, and Nominated is the node that will take it when less important pods have gone: Victims, which
// are to be deleted, and those that are going already. Victims are the most important first.
type Decision struct {
	Pod       *corev1.Pod
	Node      string
	Nominated string
	Victims   []*corev1.Pod
	Score     Score
	Feasible  int // nodes that could have taken it
	Nodes     int // nodes that exist
	Message   string
}

// Place decides for every pending pod, the most important and then the oldest first; each sees the placements of those
// before it. Pods of one kind share one ranking of the nodes that is kept up to date, so that the work for a pod grows
// with the logarithm of the number of nodes; for pods that have rules about other pods it grows with the number of
// domains that the rules tell apart.
func Place(in Input) []Decision {
	p := newPlacer(in)
	order := queue(in.Pending)
	p.promise(order)
	decisions := make([]Decision, 0, len(order))
	for _, pod := range order {
		p.keepPromises(priority(pod))
		decisions = append(decisions, p.decide(pod))
	}
	p.again(decisions)
	p.conclude()
	for i := range decisions {
		// Said last, so that it tells of the fleet as it is when all are placed: what did not fit then, does not fit now.
		if d := &decisions[i]; d.Node == "" {
			d.Message = p.explain(p.class(d.Pod), d)
		}
	}
	return decisions
}

// conclude makes the pods that were placed count like bound ones, as the next call will see them.
func (p *placer) conclude() {
	p.decided, p.residents = true, nil
	for _, one := range p.placed {
		p.lowest = min(p.lowest, priority(one.pod))
	}
}

// again asks for the pods that have no node until nothing helps them any more: a pod may wait for a neighbour that was
// placed after it.
func (p *placer) again(decisions []Decision) {
	for p.helped {
		p.helped = false
		for i := range decisions {
			if d := &decisions[i]; d.Node == "" && d.Nominated == "" {
				*d = p.decide(d.Pod)
			}
		}
	}
}

// queue orders pods by priority, age, owner and name, so that pods of one kind follow each other.
func queue(pending []*corev1.Pod) []*corev1.Pod {
	order := slices.Clone(pending)
	slices.SortFunc(order, func(a, b *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(priority(b), priority(a)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(ownerOf(a), ownerOf(b)),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return order
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// ownerOf is the UID of the pod's controller, empty without one.
func ownerOf(p *corev1.Pod) string {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return string(ref.UID)
	}
	return ""
}

// Waits reports whether the pod is one that Place should be asked about: unbound, alive, ungated and ours.
func Waits(p *corev1.Pod) bool {
	return p.Spec.NodeName == "" && controller.PodActive(p) && len(p.Spec.SchedulingGates) == 0 &&
		(p.Spec.SchedulerName == "" || p.Spec.SchedulerName == Name)
}

// placer is one call of Place.
type placer struct {
	nodes     []*node // sorted by name; places in this slice are nodes' numbers everywhere
	byName    map[string]int
	storage   *storage
	society   *society // nil where no pod has rules about others
	classes   map[string]*class
	key       []byte               // kept for the next class's key
	families  map[string]family    // by owner
	standings map[string][]float64 // by the classes' likeness
	ranked    []*class             // those that have a ranking
	spare     []*ranking           // whose memory the next ones use
	touched   []int                // numbers of the nodes that took or lost a pod, in order
	images    map[string]int

	bound     []*corev1.Pod
	leaving   map[*corev1.Pod]bool // the caller's, and victims of this call
	lowest    int32                // priority of bound pods
	budgets   *controller.Budgets
	spent     map[*policyv1.PodDisruptionBudget]int32 // by victims of this call
	residents [][]*resident                           // by node number; nil until somebody looks for victims
	promises  []promise                               // in the queue's order
	placed    []placement
	decided   bool // all pods have their decision
	kept      int  // how many of them were looked at
	released  int  // how often a node was promised and not needed
	helped    bool // something happened that may help a pod that found no node before
}

func newPlacer(in Input) *placer {
	p := &placer{
		classes: map[string]*class{}, standings: map[string][]float64{}, families: map[string]family{}, images: map[string]int{},
		byName: make(map[string]int, len(in.Nodes)), leaving: maps.Clone(in.Leaving), lowest: math.MaxInt32,
		budgets: controller.NewBudgets(in.Budgets), spent: map[*policyv1.PodDisruptionBudget]int32{},
	}
	for _, n := range in.Nodes {
		state := newNode(n)
		p.nodes = append(p.nodes, state)
		for image := range state.images {
			p.images[image]++
		}
	}
	slices.SortFunc(p.nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	for i, n := range p.nodes {
		p.byName[n.name] = i
	}
	p.storage = newStorage(&in)
	p.society = newSociety(p.nodes, &in)
	p.settle(in.Bound)
	return p
}

// settle books what runs already.
func (p *placer) settle(bound []*corev1.Pod) {
	for _, pod := range bound {
		number, exists := p.byName[pod.Spec.NodeName]
		if !exists || controller.PodFinished(pod) {
			continue
		}
		p.occupy(pod, requestOf(pod), number)
		p.society.join(pod, number, 1)
		if len(pod.Spec.Volumes) > 0 {
			p.storage.use(claimKeys(pod))
		}
		p.lowest = min(p.lowest, priority(pod))
		p.bound = append(p.bound, pod)
	}
}

// decide finds a node for the pod, or one that can be made free for it.
func (p *placer) decide(pod *corev1.Pod) Decision {
	c := p.class(pod)
	d := Decision{Pod: pod, Nodes: len(p.nodes)}
	promised := p.redeem(pod, c)
	var best pick
	blocked, ok := p.blocked(c) != "", false
	if !blocked {
		best, ok = p.rank(c).best(promised)
	}
	switch {
	case blocked: // by something that is not a node's
	case ok:
		d.Node, d.Score, d.Feasible = p.nodes[best.number].name, p.score(c, best), best.feasible
		p.take(pod, c, best.number)
	case pod.UID != "": // a pod that is not stored yet cannot be promised anything
		best.number, d.Victims, ok = p.preempt(c, promised)
		if ok {
			d.Nominated = p.nodes[best.number].name
			p.book(pod, c, best.number, 1)
		}
	}
	if promised >= 0 && (!ok || best.number != promised) {
		p.released++
		p.helped = true
	}
	return d
}

// blocked is why a pod of the class can run nowhere for now, empty when that depends on nodes.
func (p *placer) blocked(c *class) string {
	if c.needs.demand.refusal == "" && p.storage.taken(c.needs.demand.claims) {
		return reasonClaimInUse
	}
	return c.needs.demand.refusal
}

func (p *placer) take(pod *corev1.Pod, c *class, number int) {
	p.occupy(pod, c.request, number)
	p.society.join(pod, number, 1)
	p.storage.use(c.needs.demand.claims)
	p.touched = append(p.touched, number)
	p.placed = append(p.placed, placement{pod, number})
	p.helped = p.helped || p.society != nil
}
