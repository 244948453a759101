package statefulset_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
	"skerry.dev/skerry/coordinator/controller/statefulset"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(statefulset.Plan)
		commands["set"] = func(args []string) ([]string, error) { return nil, put(w, args[0], args[1:]) }
		commands["place"] = func(args []string) ([]string, error) { place(w, args...); return nil, nil }
		commands["show"] = func([]string) ([]string, error) { return show(w), nil }
		commands["claims"] = func([]string) ([]string, error) { return claims(w), nil }
		commands["leave"] = func(args []string) ([]string, error) { return nil, leave(w, args[0]) }
		commands["lose"] = func(args []string) ([]string, error) {
			w.Remove(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}})
			return nil, nil
		}
		commands["relabel"] = func(args []string) ([]string, error) {
			pod := w.Pod(args[0]).DeepCopy()
			delete(pod.Labels, appsv1.StatefulSetPodNameLabel)
			w.Put(pod)
			return nil, nil
		}
		return commands
	})
}

// put makes or changes the set: replicas=n image=n start=n policy=Parallel strategy=OnDelete partition=n unavailable=n ready=s
func put(w *controllertest.World, name string, settings []string) error {
	labels := map[string]string{"app": name}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.StatefulSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, ServiceName: "peers",
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{}},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "1"}}}},
		},
	}
	if have, ok := w.Get(set).(*appsv1.StatefulSet); ok {
		set = have.DeepCopy()
	}
	for _, setting := range settings {
		k, v, _ := strings.Cut(setting, "=")
		if err := change(&set.Spec, k, v); err != nil {
			return err
		}
	}
	w.Put(set)
	return nil
}

func change(spec *appsv1.StatefulSetSpec, k, v string) error {
	n, _ := strconv.ParseInt(v, 10, 32)
	count := int32(n)
	switch k {
	case "replicas":
		spec.Replicas = &count
	case "image":
		spec.Template.Spec.Containers[0].Image = v
	case "start":
		spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: count}
	case "policy":
		spec.PodManagementPolicy = appsv1.PodManagementPolicyType(v)
	case "strategy":
		spec.UpdateStrategy.Type = appsv1.StatefulSetUpdateStrategyType(v)
	case "partition":
		spec.UpdateStrategy.RollingUpdate.Partition = &count
	case "unavailable":
		bound := intstr.Parse(v)
		spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &bound
	case "ready":
		spec.MinReadySeconds = count
	case "claims":
		spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: v}}}
	case "keep": // whenDeleted,whenScaled
		deleted, scaled, _ := strings.Cut(v, ",")
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.PersistentVolumeClaimRetentionPolicyType(deleted), WhenScaled: appsv1.PersistentVolumeClaimRetentionPolicyType(scaled),
		}
	default:
		return fmt.Errorf("unknown setting %q", k)
	}
	return nil
}

// claims shows whose they are, and which pods mount them.
func claims(w *controllertest.World) []string {
	var lines []string
	for _, c := range controller.Rest[*corev1.PersistentVolumeClaim](w.Snapshot(), controller.ClaimKind) {
		line := c.Name
		for _, r := range c.OwnerReferences {
			line += fmt.Sprintf(" of %s %s", r.Kind, r.Name)
		}
		for _, pod := range w.Snapshot().Pods {
			if slices.Contains(controller.ClaimNames(pod), c.Name) {
				line += " in " + pod.Name
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// leave marks a claim as being deleted, which a pod that uses it holds up.
func leave(w *controllertest.World, name string) error {
	c, ok := w.Get(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}).(*corev1.PersistentVolumeClaim)
	if !ok {
		return fmt.Errorf("no claim %q", name)
	}
	c = c.DeepCopy()
	c.DeletionTimestamp, c.Finalizers = controllertest.Time(w.Now), []string{"kubernetes.io/pvc-protection"}
	w.Put(c)
	return nil
}

// place puts the named pods, or all that wait, on a node where they are ready.
func place(w *controllertest.World, names ...string) {
	for _, pod := range w.Snapshot().Pods {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || len(names) > 0 && !strings.Contains(strings.Join(names, " "), pod.Name) {
			continue
		}
		pod = pod.DeepCopy()
		pod.Spec.NodeName, pod.Status.Phase = "n1", corev1.PodRunning
		controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
		w.Put(pod)
	}
}

func show(w *controllertest.World) []string {
	var lines []string
	for _, set := range w.Snapshot().StatefulSets {
		s := set.Status
		same := "updating"
		if s.CurrentRevision == s.UpdateRevision {
			same = "updated"
		}
		lines = append(lines, fmt.Sprintf("%s replicas %d ready %d available %d current %d updated %d %s observed %d/%d", set.Name,
			s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas, same, s.ObservedGeneration, set.Generation))
	}
	for _, pod := range w.Snapshot().Pods {
		state := ""
		if pod.DeletionTimestamp != nil {
			state = " terminating"
		}
		lines = append(lines, fmt.Sprintf("  %s (%s.%s) image %s%s", pod.Name, pod.Spec.Hostname, pod.Spec.Subdomain, pod.Spec.Containers[0].Image, state))
	}
	return lines
}

// TestOrderSurvivesCrashes changes a set's size, template and partition at random, kills pods, and loses a part of what is
// planned: a pod is made only when all below it are ready, below the partition the old template stays whatever dies, no
// more pods are missing for an update than allowed; and in the end all is as asked.
func TestOrderSurvivesCrashes(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			o := &order{T: t, random: rand.New(rand.NewPCG(seed, 3)), w: controllertest.New()}
			o.run()
		})
	}
}

type order struct {
	*testing.T
	random *rand.Rand
	w      *controllertest.World
}

func (o *order) run() {
	o.put("replicas=5")
	o.settle()
	o.put("image=2", "partition=2")
	for range 60 {
		o.pass(3)
		o.kill()
		for _, pod := range o.w.Snapshot().Pods {
			if number(pod) < 2 && pod.Spec.Containers[0].Image != "1" {
				o.Fatalf("%s is below the partition and has the new template", pod.Name)
			}
		}
	}
	o.settle()
	o.put("partition=0", fmt.Sprintf("replicas=%d", 1+o.random.IntN(8)))
	for range 30 {
		o.pass(3)
	}
	o.settle()
	set := o.w.Snapshot().StatefulSets[0]
	if pods := o.w.Snapshot().Pods; len(pods) != int(*set.Spec.Replicas) || set.Status.UpdatedReplicas != *set.Spec.Replicas || set.Status.CurrentRevision != set.Status.UpdateRevision {
		o.Errorf("%d pods, %+v", len(pods), set.Status)
	}
}

func (o *order) put(settings ...string) {
	if err := put(o.w, "db", settings); err != nil {
		o.Fatal(err)
	}
}

// pass makes a plan and loses about one of so many changes, checks the order, and lets nodes do their part.
func (o *order) pass(lost int) {
	s := o.w.Snapshot()
	changes, _ := statefulset.Plan(s, o.w.Now)
	for _, c := range changes {
		if pod, ok := c.Object.(*corev1.Pod); ok && c.Verb == controller.Create {
			o.checkCreate(s.Pods, pod)
		}
		if lost == 0 || o.random.IntN(lost) > 0 {
			o.w.Perform([]controller.Change{c})
		}
	}
	o.w.Now = o.w.Now.Add(time.Second)
	if lost == 0 || o.random.IntN(2) == 0 {
		place(o.w)
	}
	for _, pod := range o.w.Snapshot().Pods {
		if pod.DeletionTimestamp != nil && o.random.IntN(2) == 0 {
			o.w.Stop(pod)
		}
	}
}

func (o *order) checkCreate(pods []*corev1.Pod, made *corev1.Pod) {
	good := map[int]bool{}
	for _, pod := range pods {
		good[number(pod)] = controller.PodReady(pod) && pod.DeletionTimestamp == nil
	}
	for i := range number(made) {
		if !good[i] {
			o.Fatalf("%s is made though db-%d is not ready", made.Name, i)
		}
	}
}

func (o *order) kill() {
	pods := o.w.Snapshot().Pods
	if len(pods) == 0 || o.random.IntN(6) > 0 {
		return
	}
	o.w.Perform([]controller.Change{{Verb: controller.Delete, Object: pods[o.random.IntN(len(pods))]}})
}

func (o *order) settle() {
	for range 100 {
		o.pass(0)
	}
}

func number(pod *corev1.Pod) int {
	n, err := strconv.Atoi(strings.TrimPrefix(pod.Name, "db-"))
	if err != nil {
		return -1
	}
	return n
}
