package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// How many nodes are looked at closely for victims, as upstream: a tenth of those where it may help, but at least so
// many.
const (
	candidateShare = 10
	candidateFloor = 100
)

// promise is a node that was made free for a pod in an earlier call, or is being made free.
type promise struct {
	pod    *corev1.Pod
	number int
	booked bool
}

// placement is a pod that was given a node in this call.
type placement struct {
	pod    *corev1.Pod
	number int
}

// resident is a bound pod as a victim.
type resident struct {
	pod      *corev1.Pod
	request  request
	priority int32
	started  time.Time
	budgets  []*policyv1.PodDisruptionBudget // that select it and do not count it out already
}

// candidate is a node with the pods that have to go from there. Pods that are going anyway are not among them.
type candidate struct {
	number  int
	victims []*resident // the most important first
	broken  int         // victims for which no disruption budget has anything left
}

// promise reads the nominations of pending pods, which are in the queue's order.
func (p *placer) promise(order []*corev1.Pod) {
	for _, pod := range order {
		if number, exists := p.byName[pod.Status.NominatedNodeName]; exists {
			p.promises = append(p.promises, promise{pod: pod, number: number})
		}
	}
}

// keepPromises books what pods of that priority or a higher one were promised, so that nobody less important and nobody
// of the same rank takes it first.
func (p *placer) keepPromises(least int32) {
	for ; p.kept < len(p.promises) && priority(p.promises[p.kept].pod) >= least; p.kept++ {
		one := &p.promises[p.kept]
		one.booked = true
		p.book(one.pod, p.class(one.pod), one.number, 1)
	}
}

// redeem takes back what is booked for the pod, because it is its turn; -1 when nothing is.
func (p *placer) redeem(pod *corev1.Pod, c *class) int {
	if pod.Status.NominatedNodeName == "" {
		return -1
	}
	for i := range p.promises {
		if one := &p.promises[i]; one.pod == pod && one.booked {
			one.booked = false
			p.book(pod, c, one.number, -1)
			return one.number
		}
	}
	return -1
}

// book keeps a node's resources for a pod that cannot run there yet, or with -1 gives them back.
func (p *placer) book(pod *corev1.Pod, c *class, number int, by int32) {
	if by > 0 {
		p.occupy(pod, c.request, number)
	} else {
		p.vacate(pod, c.request, number)
	}
	p.society.book(pod, number, by)
	p.touched = append(p.touched, number)
}

// preempt finds the node where the least has to go for a pod of the class, and makes its victims leave; false when no
// node can be made free. Only pods of lower priority have to go, and none when enough of them are going already.
func (p *placer) preempt(c *class, promised int) (number int, victims []*corev1.Pod, ok bool) {
	if p.lowest >= c.priority || c.helpless == p.released+1 || neverPreempts(c.pod) {
		return 0, nil, false
	}
	candidates := p.candidates(c)
	if len(candidates) == 0 {
		c.helpless = p.released + 1
		return 0, nil, false
	}
	best := slices.MinFunc(candidates, func(a, b candidate) int { return compareCandidates(a, b, promised) })
	for _, r := range best.victims {
		p.leave(r)
		victims = append(victims, r.pod)
	}
	return best.number, victims, true
}

func neverPreempts(pod *corev1.Pod) bool {
	return pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever
}

func (p *placer) leave(r *resident) {
	if p.leaving == nil {
		p.leaving = map[*corev1.Pod]bool{}
	}
	p.leaving[r.pod] = true
	for _, b := range r.budgets {
		p.spent[b]++
	}
}

func (p *placer) goes(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil || p.leaving[pod] }

// candidates dry-runs the preemption on one node after the other.
func (p *placer) candidates(c *class) []candidate {
	standing, enough := p.standing(c), max(candidateFloor, len(p.nodes)/candidateShare)
	var found []candidate
	for number := range p.nodes {
		if math.IsNaN(standing[number]) {
			continue
		}
		if one, ok := p.victims(c, number); ok {
			found = append(found, one)
		}
		if len(found) == enough {
			break
		}
	}
	return found
}

// victims finds out, by trying, which pods have to leave the node; the node is then as it was. It is not ok when the pod
// would not fit though all less important ones left, or when nobody leaves. Pods whose disruption budget would be broken
// go last, as far as that helps; of equal pods the younger ones go.
func (p *placer) victims(c *class, number int) (found candidate, ok bool) {
	found.number = number
	lower := p.lower(number, c.priority)
	if len(lower) == 0 {
		return found, false
	}
	gone := make([]bool, len(lower))
	for i, r := range lower {
		gone[i] = true
		p.lift(r, number)
	}
	breaks := p.breaks(lower)
	if ok = p.admits(c, number); ok {
		for _, broken := range []bool{true, false} {
			p.keep(c, number, lower, gone, func(i int) bool { return breaks[i] == broken && !p.goes(lower[i].pod) })
		}
	}
	for i, r := range lower {
		if !gone[i] {
			continue
		}
		p.put(r, number)
		if ok && !p.goes(r.pod) {
			found.add(r, breaks[i])
		}
	}
	return found, ok
}

func (c *candidate) add(r *resident, breaks bool) {
	c.victims = append(c.victims, r)
	if breaks {
		c.broken++
	}
}

// keep lets those of the chosen pods stay that the new one does not need to have gone, the most important first.
func (p *placer) keep(c *class, number int, lower []*resident, gone []bool, chosen func(i int) bool) {
	for i, r := range lower {
		if !chosen(i) {
			continue
		}
		p.put(r, number)
		if gone[i] = !p.admits(c, number); gone[i] {
			p.lift(r, number)
		}
	}
}

// breaks tells of each pod whether a disruption budget would be broken when it and all before it went.
func (p *placer) breaks(pods []*resident) []bool {
	out := make([]bool, len(pods))
	if !p.budgets.Any() {
		return out
	}
	taken := map[*policyv1.PodDisruptionBudget]int32{}
	for i, r := range pods {
		if p.goes(r.pod) {
			continue
		}
		for _, b := range r.budgets {
			taken[b]++
			out[i] = out[i] || taken[b]+p.spent[b] > b.Status.DisruptionsAllowed
		}
	}
	return out
}

// budgetsOf are the pod's budgets, without those that an eviction has counted down for it already.
func (p *placer) budgetsOf(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	return slices.DeleteFunc(p.budgets.Of(pod), func(b *policyv1.PodDisruptionBudget) bool {
		_, promised := b.Status.DisruptedPods[pod.Name]
		return promised
	})
}

// admits reports whether the node, which is not out of question, can take a pod of the class now.
func (p *placer) admits(c *class, number int) bool {
	if !p.nodes[number].fits(&c.request) {
		return false
	}
	if c.company == nil {
		return true
	}
	reason, _ := c.company.refuse(number)
	return reason == ""
}

func (p *placer) lift(r *resident, number int) {
	p.vacate(r.pod, r.request, number)
	p.society.join(r.pod, number, -1)
}

func (p *placer) put(r *resident, number int) {
	p.occupy(r.pod, r.request, number)
	p.society.join(r.pod, number, 1)
}

// lower are the node's pods of lower priority, the most important first: of equal ones those that have run for longer.
func (p *placer) lower(number int, than int32) []*resident {
	if p.residents == nil {
		p.housePods()
	}
	all := p.residents[number]
	from, _ := slices.BinarySearchFunc(all, than, func(r *resident, than int32) int {
		if r.priority >= than {
			return -1
		}
		return 1
	})
	return all[from:]
}

// housePods lists the bound pods by node. Those that are not stored yet can be nobody's victims, until all is decided and
// only the words for it are looked for.
func (p *placer) housePods() {
	p.residents = make([][]*resident, len(p.nodes))
	house := func(pod *corev1.Pod, number int) {
		started := pod.CreationTimestamp.Time
		if pod.Status.StartTime != nil {
			started = pod.Status.StartTime.Time
		}
		p.residents[number] = append(p.residents[number], &resident{pod, requestOf(pod), priority(pod), started, p.budgetsOf(pod)})
	}
	for _, pod := range p.bound {
		if pod.UID != "" || p.decided {
			house(pod, p.byName[pod.Spec.NodeName])
		}
	}
	if p.decided {
		for _, one := range p.placed {
			house(one.pod, one.number)
		}
	}
	for _, residents := range p.residents {
		slices.SortFunc(residents, func(a, b *resident) int {
			return cmp.Or(
				cmp.Compare(b.priority, a.priority), a.started.Compare(b.started),
				cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name),
			)
		})
	}
}

// compareCandidates prefers, as upstream, the node where the fewest disruption budgets are broken; then the one whose most
// important victim is the least important, the least sum of priorities, the fewest victims, and those that started last. A node where nobody has to go is the best; at a
// tie the promised node, then the first by name.
func compareCandidates(a, b candidate, promised int) int {
	if len(a.victims) == 0 || len(b.victims) == 0 {
		return cmp.Or(cmp.Compare(len(a.victims), len(b.victims)), comparePromised(a, b, promised))
	}
	return cmp.Or(
		cmp.Compare(a.broken, b.broken),
		cmp.Compare(a.victims[0].priority, b.victims[0].priority),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.victims), len(b.victims)),
		b.started().Compare(a.started()),
		comparePromised(a, b, promised),
	)
}

func comparePromised(a, b candidate, promised int) int {
	switch promised {
	case a.number:
		return -1
	case b.number:
		return 1
	}
	return cmp.Compare(a.number, b.number)
}

// sum adds the victims' priorities, each as a positive number so that many unimportant ones weigh more than few.
func (c candidate) sum() (sum int64) {
	for _, r := range c.victims {
		sum += int64(r.priority) - math.MinInt32
	}
	return sum
}

// started is when the first of the most important victims started.
func (c candidate) started() time.Time {
	first := c.victims[0].started
	for _, r := range c.victims {
		if r.priority == c.victims[0].priority && r.started.Before(first) {
			first = r.started
		}
	}
	return first
}
