package cronjob_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/cronjob"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(cronjob.Plan)
		commands["cron"] = func(args []string) ([]string, error) { return nil, put(w, args) }
		commands["end"] = func(args []string) ([]string, error) { return nil, end(w, args[0], args[1]) }
		commands["drop"] = func(args []string) ([]string, error) { w.Remove(w.Get(named(args[0]))); return nil, nil }
		commands["at"] = func(args []string) (_ []string, err error) {
			w.Now, err = time.Parse(time.RFC3339, args[0])
			return nil, err
		}
		commands["jobs"] = func([]string) ([]string, error) { return list(w), nil }
		return commands
	})
}

func named(name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// put makes or changes a CronJob: schedule=m_h_d_m_w zone=Name policy=Forbid deadline=s suspend=bool keep=n keepfailed=n
func put(w *controllertest.World, args []string) error {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}, Spec: batchv1.CronJobSpec{ConcurrencyPolicy: batchv1.AllowConcurrent}}
	if have, ok := w.Get(c).(*batchv1.CronJob); ok {
		c = have.DeepCopy()
	}
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	for k, v := range settings {
		if err := set(&c.Spec, k, v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	w.Put(c)
	return nil
}

func set(spec *batchv1.CronJobSpec, k, v string) error {
	switch k {
	case "schedule":
		spec.Schedule = strings.ReplaceAll(v, "_", " ")
		return nil
	case "zone":
		spec.TimeZone = &v
		return nil
	case "policy":
		spec.ConcurrencyPolicy = batchv1.ConcurrencyPolicy(v)
		return nil
	case "suspend":
		suspend := v == "true"
		spec.Suspend = &suspend
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	count := int32(n)
	switch k {
	case "deadline":
		spec.StartingDeadlineSeconds = &n
	case "keep":
		spec.SuccessfulJobsHistoryLimit = &count
	case "keepfailed":
		spec.FailedJobsHistoryLimit = &count
	default:
		return fmt.Errorf("unknown setting")
	}
	return err
}

// end ends a Job as Complete or Failed.
func end(w *controllertest.World, name, how string) error {
	j, ok := w.Get(named(name)).(*batchv1.Job)
	if !ok {
		return fmt.Errorf("no job %s", name)
	}
	j = j.DeepCopy()
	now := metav1.NewTime(w.Now)
	j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobConditionType(how), Status: corev1.ConditionTrue}}
	if how == "Complete" {
		j.Status.CompletionTime = &now
	}
	w.Put(j)
	return nil
}

func list(w *controllertest.World) []string {
	var lines []string
	for _, j := range w.Snapshot().Jobs {
		lines = append(lines, j.Name+" for "+j.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
	}
	return append(lines, fmt.Sprintf("%d jobs", len(lines)))
}

// TestNoRunTwice: whatever a pass manages to write, and however often it is made, each time of the schedule has one Job.
func TestNoRunTwice(t *testing.T) {
	w := controllertest.New()
	if err := put(w, []string{"tick", "schedule=*_*_*_*_*"}); err != nil {
		t.Fatal(err)
	}
	made := map[string]int{}
	for i := range 600 {
		w.Now = w.Now.Add(7 * time.Second)
		changes, _ := cronjob.Plan(w.Snapshot(), w.Now)
		for n, c := range changes {
			if (i+n)%3 == 0 {
				continue // lost
			}
			if j, ok := c.Object.(*batchv1.Job); ok && c.Verb == controller.Create {
				made[j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]]++
			}
			w.Perform([]controller.Change{c})
		}
	}
	for at, n := range made {
		if n != 1 {
			t.Errorf("%d Jobs for %s", n, at)
		}
	}
	if len(made) < 69 || len(made) > 70 {
		t.Errorf("%d runs in 70 minutes of a schedule for every minute", len(made))
	}
}
