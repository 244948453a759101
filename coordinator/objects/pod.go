package objects

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/objects/defaults"
	"skerry.dev/skerry/coordinator/objects/validation"
)

func (s *Store) podStrategy() *strategy {
	return &strategy{
		create: one(func(pod *corev1.Pod) {
			s.limit(pod)
			createPod(pod)
			s.admitAccount(pod)
			s.admitPriority(pod)
			s.admitRuntime(pod)
		}),
		refuse: func(obj runtime.Object) error {
			pod, ok := obj.(*corev1.Pod)
			if !ok {
				return nil
			}
			if err := firstOf(s.refuseAccount(pod), s.refuseSecrets(pod)); err != nil {
				return err
			}
			if err := s.refuseLimits(pod); err != nil {
				return err
			}
			if err := s.refuseRuntime(pod); err != nil {
				return err
			}
			return s.refusePriority(pod)
		},
		update: two(updatePod),
		status: two(func(pod, old *corev1.Pod) {
			old.Spec.DeepCopyInto(&pod.Spec)
			pod.DeletionTimestamp = nil
			pod.OwnerReferences = old.DeepCopy().OwnerReferences
			if pod.Status.QOSClass == "" {
				pod.Status.QOSClass = old.Status.QOSClass
			}
		}),
		rules: func(obj, _ runtime.Object) field.ErrorList {
			if pod, ok := obj.(*corev1.Pod); ok {
				return podRules(&pod.Spec, field.NewPath("spec"))
			}
			return nil
		},
		grace: gracePod,
	}
}

// createPod does what upstream's strategy and its default admission plugins (ServiceAccount, DefaultTolerationSeconds) do,
// but for Priority, RuntimeClass and LimitRanger: see admitPriority, admitRuntime and limit. A pod that is made already placed keeps what its maker says about the placement.
func createPod(pod *corev1.Pod) {
	pod.Generation = 1
	var conditions []corev1.PodCondition
	if pod.Spec.NodeName != "" {
		conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type != corev1.PodScheduled })
	} else if len(pod.Spec.SchedulingGates) > 0 {
		conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: conditions}
	pod.Status.QOSClass = defaults.QOSClass(pod)
	tolerate(pod, corev1.TaintNodeNotReady)
	tolerate(pod, corev1.TaintNodeUnreachable)
}

// updatePod keeps status, and what admission added when the pod was created if the client's manifest still lacks it.
func updatePod(pod, old *corev1.Pod) {
	old.Status.DeepCopyInto(&pod.Status)
	tolerate(pod, corev1.TaintNodeNotReady)
	tolerate(pod, corev1.TaintNodeUnreachable)
	if pod.Spec.Priority == nil && old.Spec.Priority != nil {
		priority := *old.Spec.Priority
		pod.Spec.Priority = &priority
	}
	if pod.Spec.PreemptionPolicy == nil && old.Spec.PreemptionPolicy != nil {
		policy := *old.Spec.PreemptionPolicy
		pod.Spec.PreemptionPolicy = &policy
	}
	if !validation.SamePodSpec(&pod.Spec, &old.Spec) {
		pod.Generation = old.Generation + 1
	}
}

// keepAllButEphemeral is what a write to the ephemeralcontainers subresource may change.
func keepAllButEphemeral(obj, old runtime.Object) {
	two(func(pod, old *corev1.Pod) {
		added := pod.Spec.EphemeralContainers
		old.DeepCopyInto(pod)
		pod.Spec.EphemeralContainers = added
		if !equality.Semantic.DeepEqual(pod.Spec, old.Spec) {
			pod.Generation = old.Generation + 1
		}
	})(obj, old)
}

// defaultTolerationSeconds is how long a pod stays on a node that is not ready, unless it says otherwise.
const defaultTolerationSeconds = 300

func tolerate(pod *corev1.Pod, taint string) {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return
		}
	}
	seconds := int64(defaultTolerationSeconds)
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
		Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
	})
}

// gracePod: how long a pod may take to stop. One that runs nowhere, or not any more, has nothing to stop.
func gracePod(obj runtime.Object, o *metav1.DeleteOptions) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	var seconds int64
	switch {
	case o.GracePeriodSeconds != nil:
		seconds = *o.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		seconds = 0
	}
	if seconds < 0 {
		seconds = 1
	}
	o.GracePeriodSeconds = &seconds
}

// minMemoryLimit is the least memory limit with which a container can start: its first process needs about this much
// before the program itself runs.
var minMemoryLimit = resource.MustParse("4Mi")

// podRules are our own, beside upstream's.
func podRules(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := memoryRules(spec.InitContainers, path.Child("initContainers"))
	return append(errs, memoryRules(spec.Containers, path.Child("containers"))...)
}

func memoryRules(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for n := range containers {
		limit, ok := containers[n].Resources.Limits[corev1.ResourceMemory]
		if ok && limit.Cmp(minMemoryLimit) < 0 {
			at := path.Index(n).Child("resources", "limits").Key(string(corev1.ResourceMemory))
			errs = append(errs, field.Invalid(at, limit.String(), fmt.Sprintf("must be at least %s (%d bytes): a container cannot start in less", minMemoryLimit.String(), minMemoryLimit.Value())))
		}
	}
	return errs
}
