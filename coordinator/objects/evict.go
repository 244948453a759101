package objects

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/apps/poddisruptionbudget"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/view"
)

// Bounds of evictions, as upstream.
const (
	// maxDisruptedPods is how many evictions of one budget may wait for the controller to see them.
	maxDisruptedPods = 2000
	// busySeconds is when to ask again after an eviction for which the budget is not worked out yet.
	busySeconds = 10
	// evictAttempts is how often an eviction is judged anew when the pod changed meanwhile.
	evictAttempts = 20
)

// Evict deletes a pod, with the grace and the preconditions that the eviction carries, if its disruption budget allows
// it. The budget is counted down before the pod is deleted, so that any number of evictions at once take no more than
// there is; when the deletion then fails, the disruption controller gives it back.
func (s *Store) Evict(ctx context.Context, e *policyv1.Eviction, o WriteOptions) error {
	options, err := evictionOptions(e, o)
	if err != nil {
		return err
	}
	patient := resourceVersion(options) == ""
	for n := 1; ; n++ {
		err := s.evict(ctx, e.Namespace, e.Name, options.DeepCopy())
		if !errors.Is(err, errPodMoved) {
			return err
		}
		if !patient || n == evictAttempts {
			return conflict(pods, e.Name)
		}
	}
}

// errPodMoved means that the pod changed between the judgement and the deletion.
var errPodMoved = errors.New("the pod changed while its eviction was judged")

// evictionOptions are those of the deletion; a dry run may be asked for in the request, in the body, or in both.
func evictionOptions(e *policyv1.Eviction, o WriteOptions) (*metav1.DeleteOptions, error) {
	options := &metav1.DeleteOptions{}
	if e.DeleteOptions != nil {
		options = e.DeleteOptions.DeepCopy()
	}
	if !o.DryRun {
		return options, nil
	}
	asked := []string{metav1.DryRunAll}
	if len(options.DryRun) > 0 && !slices.Equal(options.DryRun, asked) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", asked, options.DryRun))
	}
	options.DryRun = asked
	return options, nil
}

func (s *Store) evict(ctx context.Context, namespace, name string, options *metav1.DeleteOptions) error {
	item, ok := s.view.Get(pods, namespace, name)
	if !ok {
		return notFound(pods, name)
	}
	pod, ok := item.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("%T under a pod's key", item.Object))
	}
	if err := checkDelete(item, options); err != nil {
		return err
	}
	if unguarded(pod) {
		return s.disrupt(ctx, pod, options, pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil)
	}
	budget, err := s.budgetOf(pod)
	switch {
	case err != nil:
		return err
	case budget == nil:
		return s.disrupt(ctx, pod, options, false)
	case !controller.PodReady(pod) && spares(budget):
		err := s.disrupt(ctx, pod, options, true)
		if errors.Is(err, errPodMoved) {
			return tooManyDisruptions(budget.Name)
		}
		return err
	}
	if err := s.countDown(ctx, budget, pod, dryRun(options)); err != nil {
		return err
	}
	return s.disrupt(ctx, pod, options, false)
}

// unguarded are pods whose loss is none: they have ended, not begun, or are going.
func unguarded(pod *corev1.Pod) bool {
	return controller.PodFinished(pod) || pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil
}

// spares reports whether the budget lets a pod go that is not ready, which costs it nothing.
func spares(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// budgetOf finds the pod's budget; nil when it has none.
func (s *Store) budgetOf(pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	items, _ := s.view.List(budgets, pod.Namespace)
	var all []*policyv1.PodDisruptionBudget
	for _, i := range items {
		if b, ok := i.Object.(*policyv1.PodDisruptionBudget); ok {
			all = append(all, b)
		}
	}
	found := controller.NewBudgets(all).Of(pod)
	if len(found) > 1 {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError,
			Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		}}
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found[0], nil
}

// countDown takes one disruption from the budget, in whatever state it is when its turn comes.
func (s *Store) countDown(ctx context.Context, b *policyv1.PodDisruptionBudget, pod *corev1.Pod, dry bool) error {
	w := write{WriteOptions: WriteOptions{DryRun: dry}, asked: budgets}
	_, err := s.modify(ctx, budgets, b.Namespace, b.Name, partStatus, false, w, func(item *view.Item) (runtime.Object, error) {
		b, ok := item.Object.DeepCopyObject().(*policyv1.PodDisruptionBudget)
		if !ok {
			return nil, apierrors.NewInternalError(fmt.Errorf("%T under a budget's key", item.Object))
		}
		if err := refuseDisruption(b); err != nil {
			return nil, err
		}
		b.Status.DisruptionsAllowed--
		if b.Status.DisruptionsAllowed == 0 {
			poddisruptionbudget.UpdateDisruptionAllowedCondition(b)
		}
		if b.Status.DisruptedPods == nil {
			b.Status.DisruptedPods = map[string]metav1.Time{}
		}
		b.Status.DisruptedPods[pod.Name] = metav1.NewTime(s.now()).Rfc3339Copy()
		return b, nil
	})
	return err
}

// refuseDisruption is nil when the budget has a disruption left.
func refuseDisruption(b *policyv1.PodDisruptionBudget) error {
	forbidden := func(why, cause string) error {
		err := apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudget"}, b.Name, errors.New(why))
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
			Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: %s", b.Name, cause),
		})
		return err
	}
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return tooManyDisruptions(b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return forbidden("pdb disruptions allowed is negative", "pdb disruptions allowed is negative")
	case len(b.Status.DisruptedPods) > maxDisruptedPods:
		return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller", "too many pending evictions not confirmed by PDB controller")
	case b.Status.DisruptionsAllowed == 0:
		return overBudget(0, budgetWords(b))
	}
	return nil
}

// budgetWords say why the budget has nothing left.
func budgetWords(b *policyv1.PodDisruptionBudget) string {
	c := apimeta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	spoken := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case spoken && c.Reason == policyv1.SyncFailedReason: // the counts mean nothing then
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", b.Name, c.Message)
	case b.Status.CurrentHealthy <= b.Status.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	case spoken:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", b.Name, c.Reason, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", b.Name)
}

func tooManyDisruptions(budget string) error {
	return overBudget(busySeconds, fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget))
}

func overBudget(retrySeconds int, cause string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retrySeconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}

// disrupt tells the pod why it goes, and deletes it. With exact it gives errPodMoved when the pod is not what it was when
// its eviction was judged, unless the client named a version itself.
func (s *Store) disrupt(ctx context.Context, pod *corev1.Pod, options *metav1.DeleteOptions, exact bool) error {
	exact = exact && resourceVersion(options) == ""
	if exact {
		setResourceVersion(options, pod.ResourceVersion)
	}
	if !dryRun(options) {
		told, err := s.announce(ctx, pod, options)
		if err != nil {
			return moved(err, exact)
		}
		if resourceVersion(options) != "" {
			setResourceVersion(options, metaOf(told).GetResourceVersion())
		}
	}
	_, _, err := s.Delete(ctx, pods, pod.Namespace, pod.Name, *options)
	return moved(err, exact)
}

func moved(err error, exact bool) error {
	if exact && apierrors.IsConflict(err) {
		return errPodMoved
	}
	return err
}

// announce sets the pod's DisruptionTarget condition.
func (s *Store) announce(ctx context.Context, pod *corev1.Pod, options *metav1.DeleteOptions) (runtime.Object, error) {
	c := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting"}
	return s.modify(ctx, pods, pod.Namespace, pod.Name, partStatus, false, write{asked: pods}, func(item *view.Item) (runtime.Object, error) {
		if err := checkDelete(item, options); err != nil {
			return nil, err
		}
		told, ok := item.Object.DeepCopyObject().(*corev1.Pod)
		if !ok {
			return nil, apierrors.NewInternalError(fmt.Errorf("%T under a pod's key", item.Object))
		}
		controller.SetPodCondition(&told.Status, c, s.now())
		return told, nil
	})
}

func resourceVersion(o *metav1.DeleteOptions) string {
	if o.Preconditions == nil || o.Preconditions.ResourceVersion == nil {
		return ""
	}
	return *o.Preconditions.ResourceVersion
}

func setResourceVersion(o *metav1.DeleteOptions, version string) {
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	o.Preconditions.ResourceVersion = &version
}
