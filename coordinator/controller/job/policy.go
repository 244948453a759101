package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// counts reports whether the pod's failure counts towards the Job's backoff limit.
func (w *work) counts(pod *corev1.Pod) bool {
	_, counts := w.judge(pod)
	return counts
}

// judge finds what the Job's pod failure policy says about a failed pod: the action of the first rule that matches, empty
// when none does.
func (w *work) judge(pod *corev1.Pod) (action batchv1.PodFailurePolicyAction, counts bool) {
	_, rule := w.rule(pod)
	if rule == nil {
		return "", true
	}
	return rule.Action, rule.Action != batchv1.PodFailurePolicyActionIgnore
}

func (w *work) rule(pod *corev1.Pod) (int, *batchv1.PodFailurePolicyRule) {
	if w.job.Spec.PodFailurePolicy == nil {
		return 0, nil
	}
	for i := range w.job.Spec.PodFailurePolicy.Rules {
		rule := &w.job.Spec.PodFailurePolicy.Rules[i]
		if rule.OnExitCodes != nil && exited(pod, rule.OnExitCodes) != nil || rule.OnExitCodes == nil && conditioned(pod, rule.OnPodConditions) != nil {
			return i, rule
		}
	}
	return 0, nil
}

// fatal says in which words a pod's failure fails the whole Job; empty when none does.
func (w *work) fatal() string {
	for _, pod := range w.pods {
		if !w.podFailed(pod) {
			continue
		}
		i, rule := w.rule(pod)
		if rule == nil || rule.Action != batchv1.PodFailurePolicyActionFailJob {
			continue
		}
		if rule.OnExitCodes != nil {
			c := exited(pod, rule.OnExitCodes)
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d", c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode, rule.Action, i)
		}
		return fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", pod.Namespace, pod.Name, conditioned(pod, rule.OnPodConditions).Type, rule.Action, i)
	}
	return ""
}

// exited is the first container that failed with an exit code that the rule is about.
func exited(pod *corev1.Pod, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			t := list[i].State.Terminated
			if t == nil || t.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != list[i].Name {
				continue
			}
			if slices.Contains(rule.Values, t.ExitCode) == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return &list[i]
			}
		}
	}
	return nil
}

func conditioned(pod *corev1.Pod, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if slices.ContainsFunc(patterns, func(p batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
			return p.Type == c.Type && p.Status == c.Status
		}) {
			return c
		}
	}
	return nil
}

// successRule is the first rule of the success policy that is met, -1 when none is.
func (w *work) successRule() int {
	if w.job.Spec.SuccessPolicy == nil || len(w.completed) == 0 {
		return -1
	}
	return slices.IndexFunc(w.job.Spec.SuccessPolicy.Rules, func(rule batchv1.SuccessPolicyRule) bool {
		enough := func(n int) bool { return rule.SucceededCount != nil && n >= int(*rule.SucceededCount) }
		if rule.SucceededIndexes == nil {
			return enough(w.completed.total())
		}
		wanted := parseIntervals(*rule.SucceededIndexes, int(*w.job.Spec.Completions))
		have := wanted.common(w.completed)
		return len(wanted) > 0 && (have == wanted.total() || enough(have))
	})
}
