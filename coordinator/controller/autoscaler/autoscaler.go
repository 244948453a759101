// Package autoscaler sets the replicas of what a HorizontalPodAutoscaler points at, so that the use of CPU and memory of
// its pods comes close to the target. It decides as upstream's controller does (pkg/controller/podautoscaler), of whose
// tests it passes what concerns resources; docs/metrics.md has the formula.
//
// It measures nothing: what pods use is in the snapshot. Metrics of other kinds (Pods, Object, External) have no source
// here, and an autoscaler that asks for one says so in its conditions. Making and ending pods is the work of whoever owns
// the target.
package autoscaler

import (
	"cmp"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
)

// Upstream's defaults (pkg/controller/podautoscaler/config/v1alpha1/defaults.go).
const (
	period          = 15 * time.Second // between two looks at one autoscaler
	downStabilized  = 5 * time.Minute  // scale down only to the highest recommendation of that time
	tolerance       = 0.1              // of the ratio of use to target, within which nothing is done
	cpuInitialized  = 5 * time.Minute  // a pod that young may use CPU for its start
	readinessDelay  = 30 * time.Second // a pod that became unready within that time after its start was never ready
	upLimitFactor   = 2
	upLimitMinimum  = 4
	statusEvery     = time.Minute // for figures alone: each write goes to the disk
	afterFailure    = time.Second
	rememberAtLeast = 30 * time.Minute // the longest period of a policy
)

var kind = schema.GroupKind{Group: autoscalingv2.GroupName, Kind: "HorizontalPodAutoscaler"}

// Controller returns the plan as the shell runs it. What upstream's controller remembers between two looks (past
// recommendations and changes of scale) it remembers too; a new coordinator starts without, and then waits longer rather
// than shorter before it scales down.
func Controller() controller.Controller {
	p := &planner{memories: map[types.UID]*memory{}}
	return controller.Controller{Name: "autoscaler", Reads: controller.Others, Plan: p.plan}
}

type planner struct {
	memories map[types.UID]*memory
}

// memory is what is remembered of one autoscaler.
type memory struct {
	due             time.Time
	generation      int64 // that was looked at
	recommendations []recommendation
	ups, downs      []scaling
	asked           *asked
	written         time.Time // when the status was written last
}

// recommendation is what the metrics alone said.
type recommendation struct {
	at       time.Time
	replicas int32
}

// scaling is a change of scale that was made.
type scaling struct {
	at     time.Time
	change int32 // always positive
}

// asked is a change of scale that the last plan asked for.
type asked struct {
	at       time.Time
	from, to int32
}

func (p *planner) plan(s *controller.Snapshot, now time.Time) (changes []controller.Change, wake time.Time) {
	all := autoscalers(s)
	if len(all) == 0 {
		clear(p.memories)
		return nil, time.Time{}
	}
	p.forget(all)
	look := &survey{snapshot: s, all: all, targets: map[types.UID]*target{}}
	for _, h := range all {
		if h.DeletionTimestamp != nil {
			continue
		}
		m := p.memories[h.UID]
		if m == nil {
			m = &memory{}
			p.memories[h.UID] = m
		}
		if m.asked != nil || !now.Before(m.due) || m.generation != h.Generation {
			changes = append(changes, decide(look, h, m, now)...)
		}
		wake = controller.Sooner(wake, m.due)
	}
	return changes, wake
}

func (p *planner) forget(all []*autoscalingv2.HorizontalPodAutoscaler) {
	known := make(map[types.UID]bool, len(all))
	for _, h := range all {
		known[h.UID] = true
	}
	for uid := range p.memories {
		if !known[uid] {
			delete(p.memories, uid)
		}
	}
}

func autoscalers(s *controller.Snapshot) []*autoscalingv2.HorizontalPodAutoscaler {
	objects := s.Others[kind]
	out := make([]*autoscalingv2.HorizontalPodAutoscaler, 0, len(objects))
	for _, o := range objects {
		if h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			out = append(out, h)
		}
	}
	return out
}

// Nodes names those where pods run that an autoscaler looks at.
func Nodes(s *controller.Snapshot) []string {
	all := autoscalers(s)
	look := &survey{snapshot: s, all: all, targets: map[types.UID]*target{}}
	set := map[string]bool{}
	var names []string
	for _, h := range all {
		t := look.target(h)
		if t.problem != "" || t.replicas == 0 {
			continue
		}
		for _, p := range look.pods(h.Namespace, t.selector) {
			if node := p.Spec.NodeName; node != "" && !set[node] {
				set[node] = true
				names = append(names, node)
			}
		}
	}
	return names
}

// survey is a snapshot with what was looked up in it.
type survey struct {
	snapshot *controller.Snapshot
	all      []*autoscalingv2.HorizontalPodAutoscaler
	targets  map[types.UID]*target
}

// pods are those of the namespace that the selector selects.
func (l *survey) pods(namespace string, selector labels.Selector) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range inNamespace(l.snapshot.Pods, namespace) {
		if selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// rivals names two autoscalers, one of them h, whose targets share a pod; nothing when all is well.
func (l *survey) rivals(h *autoscalingv2.HorizontalPodAutoscaler, pods []*corev1.Pod) string {
	for _, other := range l.all {
		if other.Namespace != h.Namespace || other.UID == h.UID {
			continue
		}
		t := l.target(other)
		for _, p := range pods {
			if t.selector != nil && t.selector.Matches(labels.Set(p.Labels)) {
				first, second := min(h.Name, other.Name), max(h.Name, other.Name)
				return "[" + h.Namespace + "/" + first + " " + h.Namespace + "/" + second + "]"
			}
		}
	}
	return ""
}

// inNamespace cuts a sorted slice down to one namespace.
func inNamespace[T controller.Object](sorted []T, namespace string) []T {
	from, _ := search(sorted, namespace)
	rest := sorted[from:]
	for i, o := range rest {
		if o.GetNamespace() != namespace {
			return rest[:i]
		}
	}
	return rest
}

func search[T controller.Object](sorted []T, namespace string) (int, bool) {
	low, high := 0, len(sorted)
	for low < high {
		middle := (low + high) / 2
		if cmp.Less(sorted[middle].GetNamespace(), namespace) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(sorted) && sorted[low].GetNamespace() == namespace
}
