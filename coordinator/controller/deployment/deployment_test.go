package deployment_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/deployment"
	"skerry.dev/skerry/coordinator/controller/replicaset"
)

// TestScripts plays rollouts with the deployment and replicaset plans and pods that are ready when the script says so.
func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(deployment.Plan, replicaset.Plan, bind(w))
		commands["deployment"] = func(args []string) ([]string, error) { return nil, put(w, args) }
		commands["undo"] = func(args []string) ([]string, error) { return nil, undo(w, args) }
		commands["refuse"] = func(args []string) ([]string, error) { return nil, refuse(w, args) }
		commands["replicaset"] = func(args []string) ([]string, error) { return nil, stranger(w, args) }
		return commands
	})
}

// bind puts every pod on one node without asking the scheduler, and prints nothing.
func bind(w *controllertest.World) controller.Plan {
	return func(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
		for _, p := range s.Pods {
			if p.Spec.NodeName == "" {
				p = p.DeepCopy()
				p.Spec.NodeName = "n1"
				w.Put(p)
			}
		}
		return nil, time.Time{}
	}
}

// put creates or changes a deployment: name and settings; what is not set stays.
func put(w *controllertest.World, args []string) error {
	d := base(args[0])
	if have, ok := w.Get(d).(*appsv1.Deployment); ok {
		d = have.DeepCopy()
	}
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	for k, v := range settings {
		if err := set(d, k, v); err != nil {
			return err
		}
	}
	w.Put(d)
	return nil
}

func base(name string) *appsv1.Deployment {
	replicas, deadline, limit := int32(1), int32(600), int32(10)
	quarter := intstr.FromString("25%")
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &limit,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
}

func set(d *appsv1.Deployment, k, v string) error {
	spec := &d.Spec
	switch k {
	case "image":
		spec.Template.Spec.Containers[0].Image = v
		return nil
	case "strategy":
		spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.DeploymentStrategyType(v)}
		return nil
	case "singleton":
		spec.Template.Annotations = map[string]string{"skerry.dev/singleton": v}
		return nil
	case "paused":
		spec.Paused = v == "true"
		return nil
	case "surge", "unavailable":
		value := intstr.Parse(v)
		if k == "surge" {
			spec.Strategy.RollingUpdate.MaxSurge = &value
		} else {
			spec.Strategy.RollingUpdate.MaxUnavailable = &value
		}
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return err
	}
	value := int32(n)
	switch k {
	case "replicas":
		spec.Replicas = &value
	case "minready":
		spec.MinReadySeconds = value
	case "limit":
		spec.RevisionHistoryLimit = &value
	case "deadline":
		spec.ProgressDeadlineSeconds = &value
	default:
		return fmt.Errorf("unknown setting %q", k)
	}
	return nil
}

// undo does what kubectl rollout undo does: it patches the template of an earlier revision into the deployment.
func undo(w *controllertest.World, args []string) error {
	d := w.Get(base(args[0])).(*appsv1.Deployment).DeepCopy()
	for _, rs := range w.Snapshot().ReplicaSets {
		if rs.Annotations["deployment.kubernetes.io/revision"] == args[1] {
			d.Spec.Template = *rs.Spec.Template.DeepCopy()
			delete(d.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
			w.Put(d)
			return nil
		}
	}
	return fmt.Errorf("no revision %s", args[1])
}

// refuse makes creates of a kind fail with these words; no words let them pass again.
func refuse(w *controllertest.World, args []string) error {
	words := strings.Join(args[1:], " ")
	w.Refuse = func(o controller.Object) string {
		if strings.EqualFold(controllertest.Kind(o).Kind, args[0]) {
			return words
		}
		return ""
	}
	return nil
}

// stranger makes a ReplicaSet that no deployment owns, with the labels of one.
func stranger(w *controllertest.World, args []string) error {
	replicas := int32(0)
	labels := map[string]string{"app": args[1]}
	w.Put(&appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], Labels: labels},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	})
	return nil
}
