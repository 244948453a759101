package resourcequota_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/resourcequota"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(resourcequota.Plan)
		commands["quota"] = func(args []string) ([]string, error) {
			q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}}
			if have, ok := w.Get(q).(*corev1.ResourceQuota); ok {
				q = have.DeepCopy()
			}
			list, err := list(args[1:])
			q.Spec.Hard = list
			w.Put(q)
			return nil, err
		}
		commands["pod"] = func(args []string) ([]string, error) {
			requests, err := list(args[2:])
			w.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: args[0], Name: args[1]}, Spec: corev1.PodSpec{
				NodeName: "n1", Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}},
			}})
			return nil, err
		}
		commands["configmap"] = func(args []string) ([]string, error) {
			w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: args[0], Name: args[1]}})
			return nil, nil
		}
		return commands
	})
}

func list(args []string) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		quantity, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, err
		}
		out[corev1.ResourceName(name)] = quantity
	}
	return out, nil
}

// TestRests: writing what it decided leaves nothing to decide, also for amounts that can be written in several ways.
func TestRests(t *testing.T) {
	w := controllertest.New()
	for _, memory := range []string{"1024Ki", "1Mi", "1.5", "100m"} {
		w.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p" + strings.ToLower(memory)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}},
		}}}})
	}
	w.Put(&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}})
	if _, _, err := w.Rounds([]controller.Plan{resourcequota.Plan}, 2); err != nil {
		t.Error(err)
	}
	w.Now = w.Now.Add(time.Hour)
	if changes, _ := resourcequota.Plan(w.Snapshot(), w.Now); len(changes) > 0 {
		t.Errorf("%d changes an hour later", len(changes))
	}
}
