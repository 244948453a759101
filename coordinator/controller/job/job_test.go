package job_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/job"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(job.Plan)
		commands["job"] = func(args []string) ([]string, error) { return nil, put(w, args[0], args[1:]) }
		commands["exit"] = func(args []string) ([]string, error) { return nil, exit(w, args[0], args[1]) }
		commands["restarts"] = func(args []string) ([]string, error) { return nil, restarts(w, args[0], args[1]) }
		commands["disrupt"] = func(args []string) ([]string, error) { return nil, disrupt(w, args[0]) }
		commands["free"] = func(args []string) ([]string, error) { return nil, free(w, args) }
		commands["remove"] = func(args []string) ([]string, error) {
			w.Perform([]controller.Change{{Verb: controller.Delete, Object: w.Get(named(args[0]))}})
			return nil, nil
		}
		commands["show"] = func(args []string) ([]string, error) { return show(w, args[0]), nil }
		commands["place"] = func([]string) ([]string, error) { place(w); return nil, nil }
		return commands
	})
}

func named(name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func newJob(name string) *batchv1.Job {
	j := named(name)
	one, six := int32(1), int32(6)
	labels := map[string]string{"job": name}
	j.Spec = batchv1.JobSpec{
		Parallelism: &one, Completions: &one, BackoffLimit: &six, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main"}},
		}},
	}
	return j
}

// put makes or changes a Job: completions=n|none parallelism=n backoff=n perindex=n maxfailed=n deadline=s ttl=s
// suspend=bool mode=Indexed replace=Failed restart=OnFailure rule=action:code[,code] rule=action:condition success=indexes:n
func put(w *controllertest.World, name string, settings []string) error {
	j := newJob(name)
	if have, ok := w.Get(j).(*batchv1.Job); ok {
		j = have.DeepCopy()
	}
	for _, setting := range settings {
		k, v, _ := strings.Cut(setting, "=")
		if err := set(&j.Spec, k, v); err != nil {
			return fmt.Errorf("%s: %w", setting, err)
		}
	}
	w.Put(j)
	return nil
}

func set(spec *batchv1.JobSpec, k, v string) error {
	number, err := strconv.ParseInt(v, 10, 32)
	n := int32(number)
	switch k {
	case "completions":
		if spec.Completions = &n; v == "none" {
			spec.Completions = nil
			return nil
		}
	case "parallelism":
		spec.Parallelism = &n
	case "backoff":
		spec.BackoffLimit = &n
	case "perindex":
		spec.BackoffLimitPerIndex = &n
	case "maxfailed":
		spec.MaxFailedIndexes = &n
	case "ttl":
		spec.TTLSecondsAfterFinished = &n
	case "deadline":
		spec.ActiveDeadlineSeconds = &number
	default:
		return setWord(spec, k, v)
	}
	return err
}

func setWord(spec *batchv1.JobSpec, k, v string) error {
	switch k {
	case "suspend":
		suspend := v == "true"
		spec.Suspend = &suspend
	case "mode":
		mode := batchv1.CompletionMode(v)
		spec.CompletionMode = &mode
	case "replace":
		policy := batchv1.PodReplacementPolicy(v)
		spec.PodReplacementPolicy = &policy
	case "restart":
		spec.Template.Spec.RestartPolicy = corev1.RestartPolicy(v)
	case "managed":
		spec.ManagedBy = &v
	case "rule":
		return addRule(spec, v)
	case "success":
		indexes, count, counted := strings.Cut(v, ":")
		rule := batchv1.SuccessPolicyRule{}
		if indexes != "" {
			rule.SucceededIndexes = &indexes
		}
		if counted {
			n, err := strconv.ParseInt(count, 10, 32)
			if err != nil {
				return err
			}
			m := int32(n)
			rule.SucceededCount = &m
		}
		spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
	default:
		return fmt.Errorf("unknown setting")
	}
	return nil
}

func addRule(spec *batchv1.JobSpec, v string) error {
	action, what, _ := strings.Cut(v, ":")
	rule := batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyAction(action)}
	if code, err := strconv.ParseInt(what, 10, 32); err == nil {
		rule.OnExitCodes = &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{int32(code)}}
	} else {
		rule.OnPodConditions = []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.PodConditionType(what), Status: corev1.ConditionTrue}}
	}
	if spec.PodFailurePolicy == nil {
		spec.PodFailurePolicy = &batchv1.PodFailurePolicy{}
	}
	spec.PodFailurePolicy.Rules = append(spec.PodFailurePolicy.Rules, rule)
	return nil
}

// exit ends a pod's container with a code.
func exit(w *controllertest.World, name, code string) error {
	n, err := strconv.ParseInt(code, 10, 32)
	if err != nil {
		return err
	}
	pod := w.Pod(name).DeepCopy()
	pod.Status.Phase = corev1.PodSucceeded
	if n != 0 {
		pod.Status.Phase = corev1.PodFailed
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(n), FinishedAt: metav1.NewTime(w.Now)},
	}}}
	w.Put(pod)
	return nil
}

func restarts(w *controllertest.World, name, count string) error {
	n, err := strconv.ParseInt(count, 10, 32)
	pod := w.Pod(name).DeepCopy()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: int32(n)}}
	w.Put(pod)
	return err
}

// disrupt fails a pod as an eviction does.
func disrupt(w *controllertest.World, name string) error {
	pod := w.Pod(name).DeepCopy()
	pod.Status.Phase = corev1.PodFailed
	controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}, w.Now)
	w.Put(pod)
	return nil
}

// free makes a pod without an owner: free name job=label.
func free(w *controllertest.World, args []string) error {
	settings, err := controllertest.Args(args[1:])
	w.Put(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], UID: types.UID(args[0]), Labels: settings},
		Spec:       corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	})
	return err
}

// place puts every pod that waits on a node, where it runs.
func place(w *controllertest.World) {
	for _, pod := range w.Snapshot().Pods {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			continue
		}
		pod = pod.DeepCopy()
		pod.Spec.NodeName, pod.Status.Phase = "n1", corev1.PodRunning
		controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
		w.Put(pod)
	}
}

func show(w *controllertest.World, name string) []string {
	j, ok := w.Get(named(name)).(*batchv1.Job)
	if !ok {
		return []string{"gone"}
	}
	s := j.Status
	line := fmt.Sprintf("active %d succeeded %d failed %d", s.Active, s.Succeeded, s.Failed)
	if s.CompletedIndexes != "" {
		line += " completed " + s.CompletedIndexes
	}
	if s.FailedIndexes != nil && *s.FailedIndexes != "" {
		line += " abandoned " + *s.FailedIndexes
	}
	lines := []string{line}
	for _, c := range s.Conditions {
		lines = append(lines, fmt.Sprintf("  %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return w.Aliases(lines)
}
