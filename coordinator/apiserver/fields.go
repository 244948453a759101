package apiserver

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// selection chooses items by label and field.
type selection struct {
	labels labels.Selector
	fields fields.Selector
}

// newSelection checks that every selected field is one of the kind's. Upstream has the namespace for one of every kind that
// does not say its fields itself, whether it has namespaces or not.
func newSelection(res *resource.Resource, o *internalversion.ListOptions) (selection, error) {
	s := selection{labels: labels.Everything(), fields: fields.Everything()}
	if o.LabelSelector != nil {
		s.labels = o.LabelSelector
	}
	if o.FieldSelector != nil {
		s.fields = o.FieldSelector
	}
	known := fieldsOf(res.New())
	for _, r := range s.fields.Requirements() {
		if !known.Has(r.Field) && r.Field != "metadata.name" && (r.Field != "metadata.namespace" || !res.Namespaced && len(known) > 0) {
			return selection{}, unknownField(known, r.Field)
		}
	}
	return s, nil
}

// unknownField is upstream's answer: kinds that add no fields of their own have other words for it.
func unknownField(known fields.Set, field string) error {
	if len(known) == 0 {
		return badRequest("%q is not a known field selector: only %q, %q", field, "metadata.name", "metadata.namespace")
	}
	return apierrors.NewBadRequest("field label not supported: " + field)
}

func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

func (s selection) matches(item *view.Item) bool {
	if item == nil {
		return false
	}
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(item.Meta.GetLabels())) {
		return false
	}
	if s.fields.Empty() {
		return true
	}
	set := fieldsOf(item.Object)
	set["metadata.name"] = item.Meta.GetName()
	set["metadata.namespace"] = item.Meta.GetNamespace()
	return s.fields.Matches(set)
}

// choose returns the items that match; the given slice itself when all do by definition.
func (s selection) choose(items []*view.Item) []*view.Item {
	if s.everything() {
		return items
	}
	var out []*view.Item
	for _, i := range items {
		if s.matches(i) {
			out = append(out, i)
		}
	}
	return out
}

// fieldsOf are the selectable fields of an object besides name and namespace: those that upstream selects by.
func fieldsOf(obj runtime.Object) fields.Set {
	switch o := obj.(type) {
	case *corev1.Pod:
		return podFields(o)
	case *corev1.Event:
		return eventFields(o)
	case *eventsv1.Event:
		return newEventFields(o)
	case *corev1.Node:
		return fields.Set{"spec.unschedulable": strconv.FormatBool(o.Spec.Unschedulable)}
	case *corev1.Namespace:
		return fields.Set{"status.phase": string(o.Status.Phase), "name": o.Name}
	case *corev1.PersistentVolume:
		return fields.Set{"name": o.Name}
	case *corev1.PersistentVolumeClaim:
		return fields.Set{"name": o.Name}
	case *corev1.Secret:
		return fields.Set{"type": string(o.Type)}
	case *corev1.Service:
		return fields.Set{"spec.clusterIP": o.Spec.ClusterIP, "spec.type": string(o.Spec.Type)}
	case *appsv1.ReplicaSet:
		return fields.Set{"status.replicas": strconv.Itoa(int(o.Status.Replicas))}
	case *corev1.ReplicationController:
		return fields.Set{"status.replicas": strconv.Itoa(int(o.Status.Replicas))}
	case *batchv1.Job:
		return fields.Set{"status.successful": strconv.Itoa(int(o.Status.Succeeded))}
	}
	return fields.Set{}
}

func podFields(p *corev1.Pod) fields.Set {
	ip := p.Status.PodIP
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.podIPs":            ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	set := objectFields("involvedObject", e.InvolvedObject)
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = source
	set["type"] = e.Type
	return set
}

func newEventFields(e *eventsv1.Event) fields.Set {
	set := objectFields("regarding", e.Regarding)
	set["reason"] = e.Reason
	set["reportingController"] = e.ReportingController
	set["type"] = e.Type
	return set
}

func objectFields(prefix string, o corev1.ObjectReference) fields.Set {
	return fields.Set{
		prefix + ".kind":            o.Kind,
		prefix + ".namespace":       o.Namespace,
		prefix + ".name":            o.Name,
		prefix + ".uid":             string(o.UID),
		prefix + ".apiVersion":      o.APIVersion,
		prefix + ".resourceVersion": o.ResourceVersion,
		prefix + ".fieldPath":       o.FieldPath,
	}
}
