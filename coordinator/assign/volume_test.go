package assign

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

func (w *world) claim(name, volume string, phase corev1.PersistentVolumeClaimPhase) {
	if w.state.claims == nil {
		w.state.claims = map[string]*corev1.PersistentVolumeClaim{}
	}
	w.state.claims[name] = &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-claim"},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: volume}, Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func localVolume(name, node string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{api.AnnotationProvisionedBy: api.LocalProvisioner}, Finalizers: []string{api.FinalizerLocalData},
		},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/nowhere/" + name}},
			NodeAffinity:           &corev1.VolumeNodeAffinity{Required: controller.OnNode(node)}, ClaimRef: &corev1.ObjectReference{UID: "uid-claim"},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
	}
}

func TestClaimsAreResolved(t *testing.T) {
	w := newWorld(t)
	x := pod("x", "a")
	for _, name := range []string{"data", "waits", "theirs", "disk", "missing"} {
		x.Spec.Volumes = append(x.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
	w.state.pods = []*corev1.Pod{x}
	hand, local := localVolume("hand", "a"), localVolume("disk", "a")
	hand.Annotations, local.Annotations = nil, nil
	hand.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}
	w.state.volumes = []*corev1.PersistentVolume{localVolume("pvc-1", "a"), hand, local}
	w.claim("data", "pvc-1", corev1.ClaimBound)
	w.claim("waits", "pvc-1", corev1.ClaimPending)
	w.claim("theirs", "hand", corev1.ClaimBound)
	w.claim("disk", "disk", corev1.ClaimBound)
	must(t, w.Publisher.pass(t.Context()))
	a, _ := w.stream.assignment(t, "a", "uid-x")
	want := map[string]messaging.Claim{"data": {Volume: "pvc-1"}, "theirs": {Path: "/srv"}, "disk": {Path: "/nowhere/disk", Type: "Directory"}}
	if !maps.Equal(a.Claims, want) {
		t.Errorf("claims %v, want %v", a.Claims, want)
	}
	w.stream.writes()
	w.pass()
	w.claim("waits", "pvc-1", corev1.ClaimBound)
	w.pass("put a/pod.uid-x", "put a/manifest")
}

// The order to remove a volume's data stands in the node's manifest, over restarts, until the volume is gone; and it is
// given for no volume that is not to go.
func TestVolumesAreDiscardedByTheManifest(t *testing.T) {
	w := newWorld(t)
	goes, bound, kept, elsewhere := localVolume("goes", "a"), localVolume("bound", "a"), localVolume("kept", "a"), localVolume("elsewhere", "b")
	now := metav1.Now()
	for _, v := range []*corev1.PersistentVolume{goes, bound, kept, elsewhere} {
		v.DeletionTimestamp = &now
	}
	goes.Status.Phase, kept.Status.Phase = corev1.VolumeReleased, corev1.VolumeReleased
	kept.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	w.state.volumes = []*corev1.PersistentVolume{goes, bound, kept, elsewhere}
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()
	if got := w.stream.manifest(t, "a").Discard; !slices.Equal(got, []string{"goes"}) {
		t.Errorf("node a discards %v", got)
	}
	if got := w.stream.manifest(t, "b").Discard; len(got) > 0 {
		t.Errorf("node b discards %v", got)
	}
	w.restart(8)
	w.pass()
	w.state.volumes = nil
	w.pass("put a/manifest")
	if got := w.stream.manifest(t, "a").Discard; len(got) > 0 {
		t.Errorf("node a still discards %v", got)
	}
}
