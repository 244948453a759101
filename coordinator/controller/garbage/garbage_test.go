package garbage_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/garbage"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		w.Know(schema.GroupKind{Kind: "ConfigMap"})
		var plans []controller.Plan
		for _, c := range garbage.Controller(garbage.Options{Finished: 2}) {
			plans = append(plans, c.Plan)
		}
		commands := w.Commands(plans...)
		commands["put"] = func(args []string) ([]string, error) { return nil, put(w, args) }
		commands["remove"] = func(args []string) ([]string, error) { w.Remove(object(args[0])); return nil, nil }
		commands["drop"] = func(args []string) ([]string, error) { return nil, drop(w, args) }
		commands["list"] = func([]string) ([]string, error) { return list(w), nil }
		return commands
	})
}

// object makes an empty object of kind/name, in namespace default unless it is kind/namespace/name.
func object(path string) controller.Object {
	part := strings.Split(path, "/")
	meta := metav1.ObjectMeta{Namespace: "default", Name: part[len(part)-1]}
	if len(part) == 3 {
		meta.Namespace = part[1]
	}
	meta.UID = types.UID(path)
	switch part[0] {
	case "deployment":
		return &appsv1.Deployment{ObjectMeta: meta}
	case "replicaset":
		return &appsv1.ReplicaSet{ObjectMeta: meta}
	case "configmap":
		return &corev1.ConfigMap{ObjectMeta: meta}
	case "pod":
		return &corev1.Pod{ObjectMeta: meta, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	}
	meta.Namespace = ""
	if part[0] == "node" {
		return &corev1.Node{ObjectMeta: meta}
	}
	return &corev1.Namespace{ObjectMeta: meta, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
}

// put kind/name owner=Kind:path (an owner that need not exist) block=true on=node finalizer=f taint=key
func put(w *controllertest.World, args []string) error {
	o := object(args[0])
	if have := w.Get(o); have != nil {
		o = have.DeepCopyObject().(controller.Object)
	}
	var refs []metav1.OwnerReference
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch k {
		case "owner":
			kind, path, _ := strings.Cut(v, ":")
			group, kind, _ := strings.Cut(kind, "/")
			if kind == "" {
				group, kind = "v1", group
			} else {
				group += "/v1"
			}
			refs = append(refs, metav1.OwnerReference{APIVersion: group, Kind: kind, Name: path, UID: types.UID(path)})
		case "block":
			yes := true
			refs[len(refs)-1].BlockOwnerDeletion = &yes
		case "finalizer":
			o.SetFinalizers(append(o.GetFinalizers(), v))
		case "on":
			o.(*corev1.Pod).Spec.NodeName = v
		case "taint":
			o.(*corev1.Node).Spec.Taints = []corev1.Taint{{Key: v, Effect: corev1.TaintEffectNoExecute}}
		default:
			return fmt.Errorf("unknown setting %q", k)
		}
	}
	o.SetOwnerReferences(refs)
	w.Put(o)
	return nil
}

// drop deletes as the API does: kind/name [Foreground|Orphan].
func drop(w *controllertest.World, args []string) error {
	o := w.Get(object(args[0]))
	if o == nil {
		return fmt.Errorf("no %s", args[0])
	}
	c := controller.Change{Verb: controller.Delete, Object: o}
	if len(args) > 1 {
		c.Propagation = metav1.DeletionPropagation(args[1])
	}
	w.Perform([]controller.Change{c})
	return nil
}

func list(w *controllertest.World) []string {
	var lines []string
	for kind, o := range w.Snapshot().All() {
		line := fmt.Sprintf("%s %s/%s", kind.Kind, o.GetNamespace(), o.GetName())
		for _, ref := range o.GetOwnerReferences() {
			line += " of " + ref.Name
		}
		if o.GetDeletionTimestamp() != nil {
			line += " terminating"
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return []string{"nothing"}
	}
	return lines
}
