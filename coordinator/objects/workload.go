package objects

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deploymentStrategy() *strategy {
	return &strategy{
		create: one(func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{}
			d.Generation = 1
		}),
		update: two(updateDeployment),
		status: two(func(d, old *appsv1.Deployment) {
			old.Spec.DeepCopyInto(&d.Spec)
			d.Labels = maps.Clone(old.Labels)
		}),
		rules: templateRules,
	}
}

// updateDeployment counts annotation changes as a new generation too: they are copied to the replica sets.
func updateDeployment(d, old *appsv1.Deployment) {
	old.Status.DeepCopyInto(&d.Status)
	if !equality.Semantic.DeepEqual(d.Spec, old.Spec) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
		d.Generation = old.Generation + 1
	}
}

func replicaSetStrategy() *strategy {
	return &strategy{
		create: one(func(rs *appsv1.ReplicaSet) {
			rs.Status = appsv1.ReplicaSetStatus{}
			rs.Generation = 1
		}),
		update: two(func(rs, old *appsv1.ReplicaSet) {
			old.Status.DeepCopyInto(&rs.Status)
			if !equality.Semantic.DeepEqual(rs.Spec, old.Spec) {
				rs.Generation = old.Generation + 1
			}
		}),
		status: two(func(rs, old *appsv1.ReplicaSet) { old.Spec.DeepCopyInto(&rs.Spec) }),
		rules:  templateRules,
	}
}

func replicationControllerStrategy() *strategy {
	return &strategy{
		create: one(func(c *corev1.ReplicationController) {
			c.Status = corev1.ReplicationControllerStatus{}
			c.Generation = 1
		}),
		update: two(func(c, old *corev1.ReplicationController) {
			old.Status.DeepCopyInto(&c.Status)
			if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
				c.Generation = old.Generation + 1
			}
		}),
		status: two(func(c, old *corev1.ReplicationController) { old.Spec.DeepCopyInto(&c.Spec) }),
		rules:  templateRules,
	}
}

func podTemplateStrategy() *strategy {
	return &strategy{
		create: one(func(t *corev1.PodTemplate) { t.Generation = 1 }),
		update: two(func(t, old *corev1.PodTemplate) {
			if !equality.Semantic.DeepEqual(t.Template, old.Template) {
				t.Generation = old.Generation + 1
			}
		}),
		rules: templateRules,
	}
}

func daemonSetStrategy() *strategy {
	return &strategy{
		create: one(func(d *appsv1.DaemonSet) {
			d.Status = appsv1.DaemonSetStatus{}
			d.Generation = 1
			setTemplateGeneration(d, 1)
		}),
		update: two(updateDaemonSet),
		status: two(func(d, old *appsv1.DaemonSet) { old.Spec.DeepCopyInto(&d.Spec) }),
		rules:  templateRules,
	}
}

func updateDaemonSet(d, old *appsv1.DaemonSet) {
	old.Status.DeepCopyInto(&d.Status)
	generation, err := strconv.ParseInt(old.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		generation = 1 // nobody but this strategy writes it
	}
	if !equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
		generation++
	}
	setTemplateGeneration(d, generation)
	if !equality.Semantic.DeepEqual(d.Spec, old.Spec) {
		d.Generation = old.Generation + 1
	}
}

func statefulSetStrategy() *strategy {
	return &strategy{
		create: one(func(s *appsv1.StatefulSet) {
			s.Status = appsv1.StatefulSetStatus{}
			s.Generation = 1
		}),
		update: two(func(s, old *appsv1.StatefulSet) {
			old.Status.DeepCopyInto(&s.Status)
			if !equality.Semantic.DeepEqual(s.Spec, old.Spec) {
				s.Generation = old.Generation + 1
			}
		}),
		status: two(func(s, old *appsv1.StatefulSet) { old.Spec.DeepCopyInto(&s.Spec) }),
		rules:  templateRules,
	}
}

// setTemplateGeneration counts changes of the template, as upstream still does: its rules ask for it.
func setTemplateGeneration(d *appsv1.DaemonSet, generation int64) {
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(generation, 10)
}

// templateRules are our own rules for pods, applied to the template they are made from, so that whoever posts a workload
// hears of them and not the controller that makes its pods.
func templateRules(obj, _ runtime.Object) field.ErrorList {
	path := field.NewPath("spec", "template", "spec")
	switch w := obj.(type) {
	case *appsv1.Deployment:
		return podRules(&w.Spec.Template.Spec, path)
	case *appsv1.ReplicaSet:
		return podRules(&w.Spec.Template.Spec, path)
	case *appsv1.StatefulSet:
		return podRules(&w.Spec.Template.Spec, path)
	case *appsv1.DaemonSet:
		return podRules(&w.Spec.Template.Spec, path)
	case *corev1.ReplicationController:
		if w.Spec.Template != nil { // upstream's rules say that there must be one
			return podRules(&w.Spec.Template.Spec, path)
		}
	case *corev1.PodTemplate:
		return podRules(&w.Template.Spec, field.NewPath("template", "spec"))
	case *batchv1.Job:
		return podRules(&w.Spec.Template.Spec, path)
	case *batchv1.CronJob:
		return podRules(&w.Spec.JobTemplate.Spec.Template.Spec, field.NewPath("spec", "jobTemplate", "spec", "template", "spec"))
	}
	return nil
}
