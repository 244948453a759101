package disruption_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/disruption"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(disruption.Plan)
		commands["budget"] = func(args []string) ([]string, error) { return nil, putBudget(w, args) }
		commands["owner"] = func(args []string) ([]string, error) { return nil, putOwner(w, args) }
		commands["pod"] = func(args []string) ([]string, error) { return nil, putPods(w, args) }
		commands["promise"] = func(args []string) ([]string, error) { return nil, promise(w, args) }
		commands["target"] = func(args []string) ([]string, error) { return nil, target(w, args[0]) }
		return commands
	})
}

func newBudget(name string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
}

// putBudget makes or edits a budget of the pods app=web: min=n|n% max=n|n%.
func putBudget(w *controllertest.World, args []string) error {
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	b := newBudget(args[0])
	if have, ok := w.Get(b).(*policyv1.PodDisruptionBudget); ok {
		b.ObjectMeta, b.Status = have.ObjectMeta, have.Status
	}
	for k, v := range settings {
		amount := intstr.Parse(v)
		switch k {
		case "min":
			b.Spec.MinAvailable = &amount
		case "max":
			b.Spec.MaxUnavailable = &amount
		default:
			return fmt.Errorf("unknown setting %q", k)
		}
	}
	w.Put(b)
	return nil
}

// putOwner makes an owner: a kind, a name, and how many pods it wants.
func putOwner(w *controllertest.World, args []string) error {
	var n int32
	if _, err := fmt.Sscan(args[2], &n); err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Namespace: "default", Name: args[1]}
	owners := map[string]controller.Object{
		"deployment":  &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &n}},
		"replicaset":  &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: &n}},
		"statefulset": &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &n}},
		"rc":          &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Replicas: &n}},
		"job":         &batchv1.Job{ObjectMeta: meta},
	}
	o := owners[args[0]]
	if o == nil {
		return fmt.Errorf("no kind %q", args[0])
	}
	if len(args) > 3 {
		ref, err := reference(w, args[3])
		if err != nil {
			return err
		}
		o.SetOwnerReferences([]metav1.OwnerReference{ref})
	}
	w.Put(o)
	return nil
}

// reference is to kind/name; an owner that is not there gets a UID that nobody has.
func reference(w *controllertest.World, text string) (metav1.OwnerReference, error) {
	kind, name, _ := strings.Cut(text, "/")
	meta := metav1.ObjectMeta{Namespace: "default", Name: name}
	kinds := map[string]struct {
		version string
		like    controller.Object
	}{
		"Deployment":            {"apps/v1", &appsv1.Deployment{ObjectMeta: meta}},
		"ReplicaSet":            {"apps/v1", &appsv1.ReplicaSet{ObjectMeta: meta}},
		"StatefulSet":           {"apps/v1", &appsv1.StatefulSet{ObjectMeta: meta}},
		"ReplicationController": {"v1", &corev1.ReplicationController{ObjectMeta: meta}},
		"Job":                   {"batch/v1", &batchv1.Job{ObjectMeta: meta}},
		"Gadget":                {"example.com/v1", &corev1.ConfigMap{ObjectMeta: meta}},
	}
	k, ok := kinds[kind]
	if !ok {
		return metav1.OwnerReference{}, fmt.Errorf("no kind %q", kind)
	}
	owner := k.like
	if have := w.Get(k.like); have != nil {
		owner = have
	} else {
		owner.SetUID("nobody")
	}
	return controller.Reference(owner, k.version, kind), nil
}

// putPods makes pods of an owner, kind/name or none.
func putPods(w *controllertest.World, args []string) error {
	for _, name := range args[1:] {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodPending},
		}
		if args[0] != "none" {
			ref, err := reference(w, args[0])
			if err != nil {
				return err
			}
			pod.OwnerReferences = []metav1.OwnerReference{ref}
		}
		w.Put(pod)
	}
	return nil
}

// promise does what an eviction does to a budget before it deletes the pod.
func promise(w *controllertest.World, args []string) error {
	b, ok := w.Get(newBudget(args[0])).(*policyv1.PodDisruptionBudget)
	if !ok {
		return fmt.Errorf("no budget %q", args[0])
	}
	b = b.DeepCopy()
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[args[1]] = metav1.NewTime(w.Now)
	w.Put(b)
	return nil
}

// target marks a pod as about to be disrupted.
func target(w *controllertest.World, name string) error {
	pod := w.Pod(name)
	if pod == nil {
		return fmt.Errorf("no pod %q", name)
	}
	pod = pod.DeepCopy()
	controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}, w.Now)
	w.Put(pod)
	return nil
}

// TestProperties: whatever the pods do and whoever is evicted, a budget never allows more than what leaves the healthy
// ones it needs, planning rests, and a promise is forgotten in the end.
func TestProperties(t *testing.T) {
	for seed := range uint64(200) {
		w, r := controllertest.New(), rand.New(rand.NewPCG(seed, 7))
		n := int32(1 + r.IntN(8))
		w.Put(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "rs"}, Spec: appsv1.ReplicaSetSpec{Replicas: &n}})
		b := newBudget("b")
		amount := []intstr.IntOrString{intstr.FromInt32(int32(r.IntN(6))), intstr.FromString(fmt.Sprintf("%d%%", r.IntN(101)))}[r.IntN(2)]
		if r.IntN(2) == 0 {
			b.Spec.MinAvailable = &amount
		} else {
			b.Spec.MaxUnavailable = &amount
		}
		w.Put(b)
		for i := range n {
			if err := putPods(w, []string{"ReplicaSet/rs", fmt.Sprintf("p%d", i)}); err != nil {
				t.Fatal(err)
			}
		}
		for step := range 30 {
			disturb(t, w, r, int(n))
			if _, _, err := w.Rounds([]controller.Plan{disruption.Plan}, 5); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			check(t, w, seed, step)
		}
		w.Now = w.Now.Add(time.Hour)
		if _, _, err := w.Rounds([]controller.Plan{disruption.Plan}, 5); err != nil {
			t.Fatal(err)
		}
		if left := current(w).Status.DisruptedPods; len(left) > 0 {
			t.Fatalf("seed %d: promises are kept for ever: %v", seed, left)
		}
	}
}

func current(w *controllertest.World) *policyv1.PodDisruptionBudget {
	b, _ := w.Get(newBudget("b")).(*policyv1.PodDisruptionBudget)
	return b
}

func disturb(t *testing.T, w *controllertest.World, r *rand.Rand, n int) {
	t.Helper()
	name := fmt.Sprintf("p%d", r.IntN(n))
	pod := w.Pod(name)
	w.Now = w.Now.Add(time.Duration(r.IntN(60)) * time.Second)
	var err error
	switch {
	case pod == nil:
		err = putPods(w, []string{"ReplicaSet/rs", name})
	case r.IntN(5) == 0:
		w.Remove(pod)
	case r.IntN(3) == 0:
		if current(w).Status.DisruptionsAllowed > 0 && pod.DeletionTimestamp == nil {
			err = promise(w, []string{"b", name})
		}
	case r.IntN(4) == 0:
		w.Perform([]controller.Change{{Verb: controller.Delete, Object: pod}})
	default:
		pod = pod.DeepCopy()
		pod.Status.Phase = corev1.PodRunning
		status := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[r.IntN(4)/3]
		controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodReady, Status: status}, w.Now)
		w.Put(pod)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, w *controllertest.World, seed uint64, step int) {
	t.Helper()
	b := current(w)
	var ready int32
	for _, pod := range w.Snapshot().Pods {
		if _, promised := b.Status.DisruptedPods[pod.Name]; !promised && pod.DeletionTimestamp == nil && controller.PodReady(pod) {
			ready++
		}
	}
	if s := b.Status; s.CurrentHealthy != ready || s.DisruptionsAllowed < 0 || s.DisruptionsAllowed > max(0, ready-s.DesiredHealthy) {
		t.Fatalf("seed %d step %d: %d ready, status %+v", seed, step, ready, s)
	}
}
