package volumebinding_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/volumebinding"
	"skerry.dev/skerry/coordinator/scheduler"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := newWorld()
		commands := w.Commands(volumebinding.Plan, scheduler.Plan)
		commands["node"] = func(args []string) ([]string, error) { w.node(args[0]); return nil, nil }
		commands["nonode"] = func(args []string) ([]string, error) {
			w.Remove(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: args[0]}})
			return nil, nil
		}
		commands["class"] = func(args []string) ([]string, error) { return nil, w.class(args) }
		commands["volume"] = func(args []string) ([]string, error) { return nil, w.volume(args) }
		commands["claim"] = func(args []string) ([]string, error) { return nil, w.claim(args) }
		commands["pod"] = func(args []string) ([]string, error) { w.pod(args[0], args[1:]...); return nil, nil }
		commands["drop"] = func(args []string) ([]string, error) { return w.drop(args), nil }
		commands["discarded"] = func(args []string) ([]string, error) { return nil, w.discarded(args[0]) }
		commands["show"] = func([]string) ([]string, error) { return w.show(), nil }
		return commands
	})
}

type world struct{ *controllertest.World }

func newWorld() world {
	w := world{controllertest.New()}
	w.Know(controller.ClaimKind)
	w.Know(controller.VolumeKind)
	w.Know(controller.StorageClassKind)
	return w
}

func (w world) node(name string) {
	w.Put(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("20"), corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi")},
		},
	})
}

// class name [provisioner] [policy=Retain] [mode=Immediate]
func (w world) class(args []string) error {
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Provisioner: api.LocalProvisioner, VolumeBindingMode: &mode}
	for _, arg := range args[1:] {
		switch k, v, _ := strings.Cut(arg, "="); k {
		case "policy":
			policy := corev1.PersistentVolumeReclaimPolicy(v)
			c.ReclaimPolicy = &policy
		case "mode":
			mode = storagev1.VolumeBindingMode(v)
		default:
			c.Provisioner = arg
		}
	}
	w.Put(c)
	return nil
}

// volume name size=1Gi class=c on=node modes=ReadWriteOnce,... policy=Delete for=claim label:k=v
func (w world) volume(args []string) error {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: args[0], Labels: map[string]string{}, Finalizers: []string{"kubernetes.io/pv-protection"}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data/" + args[0]}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumePending},
	}
	for _, arg := range args[1:] {
		k, value, _ := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(k, "label:"):
			v.Labels[strings.TrimPrefix(k, "label:")] = value
		case k == "size":
			v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(value)}
		case k == "class":
			v.Spec.StorageClassName = value
		case k == "on":
			v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: controller.OnNode(value)}
		case k == "modes":
			v.Spec.AccessModes = modes(value)
		case k == "policy":
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimPolicy(value)
		case k == "for":
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: value}
		default:
			return fmt.Errorf("volume: %s", arg)
		}
	}
	w.Put(v)
	return nil
}

func modes(list string) (out []corev1.PersistentVolumeAccessMode) {
	for m := range strings.SplitSeq(list, ",") {
		out = append(out, corev1.PersistentVolumeAccessMode(m))
	}
	return out
}

// claim name size=1Gi class=c modes=ReadWriteOnce,... volume=v label:k=v
func (w world) claim(args []string) error {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], Finalizers: []string{"kubernetes.io/pvc-protection"}},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, arg := range args[1:] {
		k, value, _ := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(k, "label:"):
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{strings.TrimPrefix(k, "label:"): value}}
		case k == "size":
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(value)}
		case k == "class":
			c.Spec.StorageClassName = &value
		case k == "modes":
			c.Spec.AccessModes = modes(value)
		case k == "volume":
			c.Spec.VolumeName = value
		default:
			return fmt.Errorf("claim: %s", arg)
		}
	}
	w.Put(c)
	return nil
}

// pod is one that has these claims; "new:NAME" is an ephemeral volume of class local.
func (w world) pod(name string, claims ...string) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	pod.Spec.Containers = []corev1.Container{{Name: "main"}}
	for _, claim := range claims {
		if name, ephemeral := strings.CutPrefix(claim, "new:"); ephemeral {
			pod.Spec.Volumes = append(pod.Spec.Volumes, ephemeralVolume(name))
			continue
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	w.Put(pod)
}

func ephemeralVolume(name string) corev1.Volume {
	class := "local"
	template := &corev1.PersistentVolumeClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "scratch"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}}
}

// drop deletes claims and volumes as a person does.
func (w world) drop(names []string) []string {
	var changes []controller.Change
	for _, name := range names {
		for _, o := range []controller.Object{
			w.Get(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}),
			w.Get(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}),
		} {
			if o != nil {
				changes = append(changes, controller.Change{Verb: controller.Delete, Object: o})
			}
		}
	}
	return w.Perform(changes)
}

// discarded is what the coordinator does when the node of a claim's volume says that its data are gone.
func (w world) discarded(size string) error {
	for _, v := range w.volumes() {
		have := v.Spec.Capacity[corev1.ResourceStorage]
		if have.String() == size && controller.Condemned(v) {
			v = v.DeepCopy()
			v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == api.FinalizerLocalData })
			w.Put(v)
			return nil
		}
	}
	return fmt.Errorf("no volume of %s is to be discarded", size)
}

func (w world) volumes() []*corev1.PersistentVolume {
	return controller.Rest[*corev1.PersistentVolume](w.Snapshot(), controller.VolumeKind)
}

func (w world) claims() []*corev1.PersistentVolumeClaim {
	return controller.Rest[*corev1.PersistentVolumeClaim](w.Snapshot(), controller.ClaimKind)
}

func (w world) show() []string {
	var lines []string
	for _, c := range w.claims() {
		size := c.Status.Capacity[corev1.ResourceStorage]
		lines = append(lines, fmt.Sprintf("claim %s %s %s volume %q selected %q%s", c.Name, c.Status.Phase, size.String(), w.alias(c.Spec.VolumeName), c.Annotations[api.AnnotationSelectedNode], leaving(c)))
	}
	for _, v := range w.volumes() {
		size, holder := v.Spec.Capacity[corev1.ResourceStorage], "nobody"
		if v.Spec.ClaimRef != nil {
			holder = v.Spec.ClaimRef.Name
		}
		words := fmt.Sprintf("volume %s %s %s for %s%s", w.alias(v.Name), size.String(), v.Status.Phase, holder, leaving(v))
		if home := controller.HomeOf(v); home != "" {
			words += " on " + home
		}
		if controller.Condemned(v) {
			words += " to be discarded"
		}
		lines = append(lines, words)
	}
	for _, pod := range w.Snapshot().Pods {
		lines = append(lines, fmt.Sprintf("pod %s on %q", pod.Name, pod.Spec.NodeName))
	}
	return lines
}

// alias names a volume that was made for a claim by the claim: its own name has the claim's UID in it.
func (w world) alias(volume string) string {
	for _, v := range w.volumes() {
		if v.Name == volume && controller.IsLocal(v) {
			return "made-for-" + v.Spec.ClaimRef.Name
		}
	}
	return volume
}

func leaving(o controller.Object) string {
	if o.GetDeletionTimestamp() == nil {
		return ""
	}
	return " leaving"
}

// TestCrashes lets claims, volumes and pods come and go at random and loses a part of what is planned: no volume ever
// serves two claims, no pod runs before its claims are bound nor away from their volumes, and no data are given up that
// a node was not told to remove. In the end everything is bound, and planning again changes nothing.
func TestCrashes(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			c := &crashes{T: t, world: newWorld(), random: rand.New(rand.NewPCG(seed, 7)), held: map[string]string{}}
			c.run()
		})
	}
}

type crashes struct {
	*testing.T
	world
	random *rand.Rand
	held   map[string]string // UID of the claim that each volume was first bound to
}

func (c *crashes) run() {
	for _, n := range []string{"a", "b", "c"} {
		c.node(n)
	}
	c.must(c.class([]string{"local"}), c.class([]string{"kept", "policy=Retain"}), c.class([]string{"static", "kubernetes.io/no-provisioner"}))
	for i := range 3 {
		c.must(c.volume([]string{fmt.Sprintf("disk-%d", i), fmt.Sprintf("size=%dGi", i+1), "class=static", "on=" + string(rune('a'+i))}))
	}
	for i := range 60 {
		c.stir(i)
		c.pass(3)
	}
	for range 30 {
		c.pass(0)
	}
	for _, claim := range c.claims() {
		if claim.DeletionTimestamp == nil && *claim.Spec.StorageClassName != "static" && claim.Status.Phase != corev1.ClaimBound && claim.Annotations[api.AnnotationSelectedNode] != "" {
			c.Errorf("claim %s is %s in the end", claim.Name, claim.Status.Phase)
		}
	}
	if changes, _ := volumebinding.Plan(c.Snapshot(), c.Now); len(changes) > 0 {
		c.Errorf("planned again: %v", changes[0])
	}
}

func (c *crashes) must(errs ...error) {
	for _, err := range errs {
		if err != nil {
			c.Fatal(err)
		}
	}
}

// stir is what people do.
func (c *crashes) stir(i int) {
	name := fmt.Sprintf("c%d", c.random.IntN(6))
	claim := c.Get(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	switch c.random.IntN(4) {
	case 0, 1:
		if claim == nil {
			class := []string{"local", "kept", "static"}[c.random.IntN(3)]
			c.must(c.claim([]string{name, fmt.Sprintf("size=%dGi", 1+c.random.IntN(3)), "class=" + class}))
		}
		c.pod(fmt.Sprintf("p%d", i), name)
	case 2:
		c.drop([]string{name})
	case 3:
		for _, pod := range c.Snapshot().Pods {
			if pod.Spec.Volumes[0].Name == name {
				c.Remove(pod)
			}
		}
	}
}

func (c *crashes) pass(lost int) {
	s := c.Snapshot()
	first, _ := volumebinding.Plan(s, c.Now)
	second, _ := scheduler.Plan(s, c.Now)
	for _, change := range append(first, second...) {
		if lost == 0 || c.random.IntN(lost) > 0 {
			c.Perform([]controller.Change{change})
		}
		c.check(change)
	}
	for _, v := range c.volumes() {
		if controller.Condemned(v) && c.random.IntN(2) == 0 {
			size := v.Spec.Capacity[corev1.ResourceStorage]
			c.must(c.discarded(size.String()))
			c.Now = c.Now.Add(1)
		}
	}
}

func (c *crashes) check(change controller.Change) {
	users := map[string]string{}
	for _, claim := range c.claims() {
		if other := users[claim.Spec.VolumeName]; claim.Spec.VolumeName != "" && other != "" {
			c.Fatalf("claims %s and %s have volume %s", claim.Name, other, claim.Spec.VolumeName)
		}
		users[claim.Spec.VolumeName] = claim.Name
	}
	for _, v := range c.volumes() {
		if ref := v.Spec.ClaimRef; ref != nil && ref.UID != "" {
			if first := c.held[v.Name]; first != "" && first != string(ref.UID) {
				c.Fatalf("volume %s goes from claim %s to %s", v.Name, first, ref.UID)
			}
			c.held[v.Name] = string(ref.UID)
		}
	}
	if v, ok := change.Object.(*corev1.PersistentVolume); ok && change.Verb == controller.Update && controller.IsLocal(v) && v.DeletionTimestamp != nil {
		if !controller.Condemned(v) && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && v.Status.Phase == corev1.VolumeReleased {
			c.Fatalf("volume %s is given up before its node has removed the data", v.Name)
		}
	}
	if pod, ok := change.Object.(*corev1.Pod); ok && change.Verb == controller.Bind {
		c.checkBound(pod)
	}
}

func (c *crashes) checkBound(pod *corev1.Pod) {
	for _, name := range controller.ClaimNames(pod) {
		claim, ok := c.Get(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}).(*corev1.PersistentVolumeClaim)
		if !ok || claim.Status.Phase != corev1.ClaimBound {
			continue // it went while this was written
		}
		for _, v := range c.volumes() {
			if v.Name == claim.Spec.VolumeName && controller.HomeOf(v) != pod.Spec.NodeName {
				c.Fatalf("pod %s is bound to %s, its volume is on %s", pod.Name, pod.Spec.NodeName, controller.HomeOf(v))
			}
		}
	}
}
