package objects_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

const claimYAML = `
metadata: {namespace: default, name: NAME}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
status: {phase: Bound}
`

func newClaim(t *testing.T, name string) *corev1.PersistentVolumeClaim {
	t.Helper()
	c := parse[corev1.PersistentVolumeClaim](t, claimYAML)
	c.Name = name
	return c
}

func TestClaims(t *testing.T) {
	e := newEnv(t)
	if err := e.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := create(t, e, newClaim(t, "data"))
	if made.Spec.StorageClassName == nil || *made.Spec.StorageClassName != "local" || made.Status.Phase != corev1.ClaimPending ||
		len(made.Finalizers) != 1 || made.Finalizers[0] != "kubernetes.io/pvc-protection" || *made.Spec.VolumeMode != corev1.PersistentVolumeFilesystem {
		t.Errorf("made %+v", made)
	}
	none := newClaim(t, "none")
	empty := ""
	none.Spec.StorageClassName = &empty
	if got := create(t, e, none); *got.Spec.StorageClassName != "" {
		t.Errorf("a claim that wants no class got %q", *got.Spec.StorageClassName)
	}
	_, deleted, err := e.Delete(t.Context(), resource.ForObject(made), "default", "data", metav1.DeleteOptions{})
	if err != nil || deleted {
		t.Errorf("deleted a protected claim: %v, %v", deleted, err)
	}
	grown := get(t, e, none, "default", "none")
	grown.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	_, _, err = e.Update(t.Context(), grown, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec is immutable after creation")
}

func TestVolumes(t *testing.T) {
	e := newEnv(t)
	text := `
metadata: {name: v}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], local: {path: /srv}}
status: {phase: Bound}
`
	_, err := e.Create(t.Context(), parse[corev1.PersistentVolume](t, text), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.nodeAffinity: Required value: Local volume requires node affinity")
	v := parse[corev1.PersistentVolume](t, text)
	v.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}
	made := create(t, e, v)
	if made.Status.Phase != corev1.VolumePending || made.Status.LastPhaseTransitionTime == nil || made.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain ||
		len(made.Finalizers) != 1 || made.Finalizers[0] != "kubernetes.io/pv-protection" {
		t.Errorf("made %+v", made)
	}
}

func TestStorageClasses(t *testing.T) {
	e := newEnv(t)
	hasty := parse[storagev1.StorageClass](t, "metadata: {name: hasty}\nprovisioner: skerry.dev/local\n")
	_, err := e.Create(t.Context(), hasty, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, `volumeBindingMode: Unsupported value: "Immediate": supported values: "WaitForFirstConsumer"`)
	made := create(t, e, parse[storagev1.StorageClass](t, "metadata: {name: other}\nprovisioner: example.com/other\n"))
	if *made.VolumeBindingMode != storagev1.VolumeBindingImmediate || *made.ReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		t.Errorf("made %+v", made)
	}
}

func TestQuotaOfClaims(t *testing.T) {
	e := newEnv(t)
	if err := e.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, e, parse[corev1.ResourceQuota](t, `
metadata: {namespace: default, name: q}
spec: {hard: {persistentvolumeclaims: "3", requests.storage: 2Gi, local.storageclass.storage.k8s.io/requests.storage: 1Gi}}
`))
	create(t, e, newClaim(t, "a"))
	_, err := e.Create(t.Context(), newClaim(t, "b"), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, "exceeded quota: q, requested: local.storageclass.storage.k8s.io/requests.storage=1Gi, used: local.storageclass.storage.k8s.io/requests.storage=1Gi, limited: local.storageclass.storage.k8s.io/requests.storage=1Gi")
}
