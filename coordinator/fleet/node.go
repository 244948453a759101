package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging"
)

// node merges a node's report of itself into its object.
func (r *Reports) node(ctx context.Context, name string, report messaging.NodeReport) error {
	var status corev1.NodeStatus
	if err := status.Unmarshal(report.Status); err != nil {
		return drop("status of node %s unreadable: %v", name, err)
	}
	node, ok := get[*corev1.Node](r.view, "", name)
	if !ok {
		return drop("node %s has no object", name)
	}
	if err := r.label(ctx, node, report.Labels); err != nil {
		return err
	}
	_, err := r.objects.MutateStatus(ctx, resource.ForObject(node), "", name, func(obj runtime.Object) bool {
		n, ok := obj.(*corev1.Node)
		if !ok {
			return false
		}
		n.Status = mergeNodeStatus(n.Status, status)
		return true
	})
	return err
}

// mergeNodeStatus takes the node's word for what it measures, keeps conditions that others wrote, and keeps the time of
// a condition's last change when it did not change.
func mergeNodeStatus(have, report corev1.NodeStatus) corev1.NodeStatus {
	out := report
	for i := range out.Conditions {
		for _, old := range have.Conditions {
			if old.Type == out.Conditions[i].Type && old.Status == out.Conditions[i].Status {
				out.Conditions[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	for _, old := range have.Conditions {
		if !hasNodeCondition(out.Conditions, old.Type) {
			out.Conditions = append(out.Conditions, old)
		}
	}
	return out
}

func hasNodeCondition(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) bool {
	for _, c := range conditions {
		if c.Type == kind {
			return true
		}
	}
	return false
}

// label brings the node's own labels up to date: sets what it reports and removes what it no longer does. Labels outside
// its own prefixes are the operator's, and a node that could set them could attract any pod.
func (r *Reports) label(ctx context.Context, node *corev1.Node, reported map[string]string) error {
	patch := map[string]any{}
	for key, value := range reported {
		if ownLabel(key) && node.Labels[key] != value {
			patch[key] = value
		}
	}
	for key := range node.Labels {
		if _, still := reported[key]; !still && strings.HasPrefix(key, featurePrefix) {
			patch[key] = nil
		}
	}
	if len(patch) == 0 {
		return nil
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": patch}})
	if err != nil {
		return err
	}
	_, err = r.objects.Patch(ctx, resource.ForObject(node), "", node.Name, types.MergePatchType, data, "",
		objects.WriteOptions{FieldManager: api.ComponentAgent})
	return err
}

const featurePrefix = "feature.node.kubernetes.io/"

func ownLabel(key string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable, corev1.LabelInstanceTypeStable:
		return true
	}
	return strings.HasPrefix(key, featurePrefix)
}

// resourceOf is the served resource of T.
func resourceOf[T object]() *resource.Resource {
	var zero T
	return resource.ForObject(zero)
}

func asDrop(err error, target **dropError) bool { return errors.As(err, target) }
