package table

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	wideContainers = wide(text("Containers", "Names of each container in the template."))
	wideImages     = wide(text("Images", "Images referenced by each container in the template."))
	wideSelector   = wide(text("Selector", "Label selector for the pods."))
)

var deploymentLayout = layout(deploymentCells,
	name,
	text("Ready", "Number of the pod with ready state"),
	number("Up-to-date", appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"]),
	number("Available", appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"]),
	age, wideContainers, wideImages, wideSelector,
)

func deploymentCells(d *appsv1.Deployment, now time.Time) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	return []any{
		d.Name, fraction(d.Status.ReadyReplicas, d.Spec.Replicas),
		int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		since(d.CreationTimestamp, now), names, images, selector(d.Spec.Selector),
	}
}

var replicaSetLayout = layout(replicaSetCells,
	name,
	number("Desired", appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"]),
	number("Current", appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"]),
	number("Ready", appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"]),
	age, wideContainers, wideImages, wideSelector,
)

func replicaSetCells(r *appsv1.ReplicaSet, now time.Time) []any {
	names, images := containers(r.Spec.Template.Spec.Containers)
	return []any{
		r.Name, replicas(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
		since(r.CreationTimestamp, now), names, images, selector(r.Spec.Selector),
	}
}

var replicationControllerLayout = layout(replicationControllerCells,
	name,
	number("Desired", corev1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"]),
	number("Current", corev1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"]),
	number("Ready", corev1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"]),
	age, wideContainers, wideImages, wide(text("Selector", corev1.ReplicationControllerSpec{}.SwaggerDoc()["selector"])),
)

var podTemplateLayout = layout(podTemplateCells,
	name,
	text("Containers", "Names of each container in the template."),
	text("Images", "Images referenced by each container in the template."),
	text("Pod Labels", "The labels for the pod template."),
)

var runtimeClassLayout = layout(func(c *nodev1.RuntimeClass, now time.Time) []any {
	return []any{c.Name, c.Handler, since(c.CreationTimestamp, now)}
}, name, text("Handler", ""), age)

func podTemplateCells(t *corev1.PodTemplate, _ time.Time) []any {
	names, images := containers(t.Template.Spec.Containers)
	return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
}

func replicationControllerCells(c *corev1.ReplicationController, now time.Time) []any {
	var names, images string
	if c.Spec.Template != nil {
		names, images = containers(c.Spec.Template.Spec.Containers)
	}
	return []any{
		c.Name, replicas(c.Spec.Replicas), int64(c.Status.Replicas), int64(c.Status.ReadyReplicas),
		since(c.CreationTimestamp, now), names, images, selector(&metav1.LabelSelector{MatchLabels: c.Spec.Selector}),
	}
}

var statefulSetLayout = layout(statefulSetCells,
	name, text("Ready", "Number of the pod with ready state"), age, wideContainers, wideImages,
)

func statefulSetCells(s *appsv1.StatefulSet, now time.Time) []any {
	names, images := containers(s.Spec.Template.Spec.Containers)
	return []any{s.Name, fraction(s.Status.ReadyReplicas, s.Spec.Replicas), since(s.CreationTimestamp, now), names, images}
}

var daemonSetLayout = layout(daemonSetCells,
	name,
	number("Desired", appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"]),
	number("Current", appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"]),
	number("Ready", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"]),
	number("Up-to-date", appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"]),
	number("Available", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"]),
	text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
	age, wideContainers, wideImages, wideSelector,
)

func daemonSetCells(d *appsv1.DaemonSet, now time.Time) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	s := d.Status
	return []any{
		d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
		int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable),
		selector(&metav1.LabelSelector{MatchLabels: d.Spec.Template.Spec.NodeSelector}),
		since(d.CreationTimestamp, now), names, images, selector(d.Spec.Selector),
	}
}

var controllerRevisionLayout = layout(func(r *appsv1.ControllerRevision, now time.Time) []any {
	owner := none
	if ref := metav1.GetControllerOfNoCopy(r); ref != nil {
		group, _ := schema.ParseGroupVersion(ref.APIVersion) // its zero value is no group
		owner = strings.ToLower(schema.GroupKind{Group: group.Group, Kind: ref.Kind}.String()) + "/" + ref.Name
	}
	return []any{r.Name, owner, r.Revision, since(r.CreationTimestamp, now)}
},
	name,
	text("Controller", "Controller of the object"),
	text("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
	age,
)

// replicas is the wanted number; the API's default is one.
func replicas(n *int32) int64 {
	if n == nil {
		return 1
	}
	return int64(*n)
}

func fraction(ready int32, want *int32) string { return fmt.Sprintf("%d/%d", ready, replicas(want)) }
