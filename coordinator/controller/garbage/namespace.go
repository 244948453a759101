package garbage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// planNamespaces empties namespaces that are being deleted, and lets them go when they are empty.
func planNamespaces(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	contents := map[string]*content{}
	for _, ns := range s.Namespaces {
		if ns.DeletionTimestamp != nil && slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
			contents[ns.Name] = &content{counts: map[string]int{}, finalizers: map[string]int{}}
		}
	}
	if len(contents) == 0 {
		return nil, time.Time{}
	}
	for kind, o := range s.All() {
		if c := contents[o.GetNamespace()]; c != nil && o.GetNamespace() != "" {
			c.add(kind, o)
		}
	}
	var changes []controller.Change
	for _, ns := range s.Namespaces {
		if c := contents[ns.Name]; c != nil {
			changes = append(changes, c.plan(ns, now)...)
		}
	}
	return changes, time.Time{}
}

// content is what is left in one namespace.
type content struct {
	doomed     []controller.Object // not being deleted yet
	counts     map[string]int      // of all, by resource
	finalizers map[string]int
	pods       bool // some are left
}

func (c *content) add(kind schema.GroupKind, o controller.Object) {
	c.counts[resourceName(kind)]++
	for _, f := range o.GetFinalizers() {
		c.finalizers[f]++
	}
	if o.GetDeletionTimestamp() == nil {
		c.doomed = append(c.doomed, o)
	}
	c.pods = c.pods || kind == controller.PodKind
}

// resourceName is the kind as upstream's conditions name it: plural, a dot, and the group, which may be empty.
func resourceName(kind schema.GroupKind) string {
	plural, _ := meta.UnsafeGuessKindToResource(kind.WithVersion("v1"))
	return plural.Resource + "." + kind.Group
}

func (c *content) plan(ns *corev1.Namespace, now time.Time) []controller.Change {
	if len(c.counts) == 0 {
		updated := ns.DeepCopy()
		updated.Spec.Finalizers = slices.DeleteFunc(updated.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		return []controller.Change{{Verb: controller.Finalize, Object: updated}}
	}
	if changes := c.remove(); len(changes) > 0 {
		return changes // what is left after that is worth a word
	}
	return c.explain(ns, now)
}

// remove deletes the pods first: until they have ended, they keep what they use and what restricts them.
func (c *content) remove() []controller.Change {
	slices.SortFunc(c.doomed, func(a, b controller.Object) int {
		return cmp.Or(cmp.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b)), cmp.Compare(a.GetName(), b.GetName()))
	})
	var changes []controller.Change
	for _, o := range c.doomed {
		if _, pod := o.(*corev1.Pod); pod == c.pods {
			changes = append(changes, controller.Change{Verb: controller.Delete, Object: o, Propagation: metav1.DeletePropagationBackground})
		}
	}
	return changes
}

// explain says in the namespace's status what its deletion waits for: all of upstream's conditions, with its words. Those
// that are never true here tell who waits for them that they are looked after.
func (c *content) explain(ns *corev1.Namespace, now time.Time) []controller.Change {
	updated := ns.DeepCopy()
	changed := false
	for _, condition := range c.conditions() {
		changed = setNamespaceCondition(updated, condition, now) || changed
	}
	if !changed {
		return nil
	}
	return []controller.Change{{Verb: controller.Status, Object: updated}}
}

func (c *content) conditions() []corev1.NamespaceCondition {
	condition := func(t corev1.NamespaceConditionType, reason, message string) corev1.NamespaceCondition {
		return corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	remaining := condition(corev1.NamespaceContentRemaining, "SomeResourcesRemain",
		"Some resources are remaining: "+summary(c.counts, "%s has %d resource instances"))
	remaining.Status = corev1.ConditionTrue
	held := condition(corev1.NamespaceFinalizersRemaining, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	if len(c.finalizers) > 0 {
		held.Status, held.Reason = corev1.ConditionTrue, "SomeFinalizersRemain"
		held.Message = "Some content in the namespace has finalizers remaining: " + summary(c.finalizers, "%s in %d resource instances")
	}
	return []corev1.NamespaceCondition{
		condition(corev1.NamespaceDeletionDiscoveryFailure, "ResourcesDiscovered", "All resources successfully discovered"),
		condition(corev1.NamespaceDeletionGVParsingFailure, "ParsedGroupVersions", "All legacy kube types successfully parsed"),
		condition(corev1.NamespaceDeletionContentFailure, "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
		remaining, held,
	}
}

func summary(counts map[string]int, format string) string {
	lines := make([]string, 0, len(counts))
	for name, n := range counts {
		lines = append(lines, fmt.Sprintf(format, name, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

func setNamespaceCondition(ns *corev1.Namespace, c corev1.NamespaceCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	for i := range ns.Status.Conditions {
		have := &ns.Status.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		changed := *have != c
		*have = c
		return changed
	}
	ns.Status.Conditions = append(ns.Status.Conditions, c)
	return true
}
