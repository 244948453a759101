package fleet

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// volume is one on n1 whose claim is gone, with that policy, which somebody deletes.
func (w *world) volume(name string, policy corev1.PersistentVolumeReclaimPolicy) {
	w.t.Helper()
	w.create(&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{api.AnnotationProvisionedBy: api.LocalProvisioner}, Finalizers: []string{api.FinalizerLocalData},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: policy, NodeAffinity: &corev1.VolumeNodeAffinity{Required: controller.OnNode("n1")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/var/lib/v"}},
		},
	})
	_, err := w.objects.MutateStatus(w.t.Context(), resourceOf[*corev1.PersistentVolume](), "", name, func(o runtime.Object) bool {
		v, ok := o.(*corev1.PersistentVolume)
		if ok {
			v.Status.Phase = corev1.VolumeReleased
		}
		return ok
	})
	must(w.t, err)
}

func (w *world) held(name string) bool {
	v, ok := get[*corev1.PersistentVolume](w.view, "", name)
	return ok && slices.Contains(v.Finalizers, api.FinalizerLocalData)
}

// A volume is let go when its own node says that its data are gone, if they were to go.
func TestVolumesGoWhenTheirNodeSaysSo(t *testing.T) {
	w := newWorld(t)
	w.reports()
	w.volume("goes", corev1.PersistentVolumeReclaimDelete)
	w.volume("kept", corev1.PersistentVolumeReclaimRetain)
	w.volume("wanted", corev1.PersistentVolumeReclaimDelete)
	for _, name := range []string{"goes", "kept"} {
		_, _, err := w.objects.Delete(t.Context(), resourceOf[*corev1.PersistentVolume](), "", name, metav1.DeleteOptions{})
		must(t, err)
	}
	say := func(node, volume string, seq uint64) {
		w.publish(messaging.UpSubject(node, "volume", volume), messaging.VolumeReport{Boot: "b", Seq: seq, Volume: volume})
	}
	say("n2", "goes", 1)
	say("n1", "kept", 2)
	say("n1", "wanted", 3)
	say("n1", "unknown", 4)
	p := w.pod("p", "n2")
	w.publish(messaging.UpSubject("n2", "pod", string(p.UID)), podReport(t, p, 5, corev1.PodRunning, false))
	w.until("what came before is merged", func() bool {
		now, _ := get[*corev1.Pod](w.view, "default", "p")
		return now.Status.Phase == corev1.PodRunning
	})
	if !w.held("goes") || !w.held("kept") || !w.held("wanted") {
		t.Error("a volume was let go that was not to go, or by another node")
	}
	say("n1", "goes", 6)
	w.until("its node's word", func() bool { return !w.held("goes") })
}
