package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

const keeping = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keep}
spec:
  serviceName: keep
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}
  selector: {matchLabels: {app: keep}}
  template:
    metadata: {labels: {app: keep}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: data, mountPath: /data}], resources: {requests: {cpu: 1m, memory: 4Mi}}}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
`

// TestVolumesOutlivePods: the pods of a set with claims get volumes on their nodes, come back to them with what they wrote,
// and only the deletion of a claim takes its data off the node.
func TestVolumesOutlivePods(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	class := get[storagev1.StorageClass](s, "storageclass local")
	if class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" {
		t.Errorf("the class is not the default one: %v", class.Annotations)
	}
	s.apply(keeping)
	pods := s.readyPods("app=keep", 2)
	s.steps(
		step{args: "get pvc", want: []string{"NAME", "STATUS", "data-keep-0", "data-keep-1", "Bound", "1Gi", "RWO", "local"}},
		step{args: "get sc", want: []string{"local (default)", "skerry.dev/local", "Delete", "WaitForFirstConsumer"}},
		step{args: "describe pvc data-keep-0", want: []string{"StorageClass:  local", "Status:        Bound", "Used By:       keep-0", "ProvisioningSucceeded"}},
		step{args: "exec keep-0 -- /testimage write /data/mine zero"},
		step{args: "exec keep-1 -- /testimage write /data/mine one"},
	)
	s.kubectl("delete pod keep-0")
	again := s.readyPods("app=keep", 2)
	for i := range again {
		if again[i].Spec.NodeName != pods[i].Spec.NodeName {
			t.Errorf("%s was on %s and is on %s, away from its data", again[i].Name, pods[i].Spec.NodeName, again[i].Spec.NodeName)
		}
	}
	if again[0].UID == pods[0].UID {
		t.Error("keep-0 is still the same pod")
	}
	s.wants(s.kubectl("exec keep-0 -- /testimage show /data/mine"), "zero")

	first, second := s.folderOf("data-keep-0", again[0]), s.folderOf("data-keep-1", again[1])
	s.wants(s.read(filepath.Join(first, "mine")), "zero")
	s.wants(s.read(filepath.Join(second, "mine")), "one")
	s.kubectl("scale sts keep --replicas=1")
	s.vanishes(second)
	await(s, "its volume gone", "pv", func(l corev1.PersistentVolumeList) bool { return len(s.volumes(l)) == 1 })
	s.wants(s.read(filepath.Join(first, "mine")), "zero")
	s.kubectl("delete pvc data-keep-0 --wait=false")
	s.wants(s.kubectl("get pvc data-keep-0"), "Terminating") // its pod has it
	s.wants(s.read(filepath.Join(first, "mine")), "zero")
	s.kubectl("delete sts keep")
	s.vanishes(first)
	await(s, "its volume gone", "pv", func(l corev1.PersistentVolumeList) bool { return len(s.volumes(l)) == 0 })
}

// folderOf is where the pod's node keeps the claim's volume.
func (s space) folderOf(claim string, pod corev1.Pod) string {
	s.Helper()
	c := get[corev1.PersistentVolumeClaim](s, "pvc "+claim)
	return filepath.Join(shared.DataDir, "nodes", pod.Spec.NodeName, "persistent", c.Spec.VolumeName)
}

func (s space) read(path string) string {
	s.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	return string(data)
}

func (s space) vanishes(path string) {
	s.Helper()
	s.poll(path+" gone", func() (bool, error) {
		_, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		return false, err
	})
}

// volumes are those of the test's own claims.
func (s space) volumes(l corev1.PersistentVolumeList) []string {
	var names []string
	for i := range l.Items {
		if ref := l.Items[i].Spec.ClaimRef; ref != nil && ref.Namespace == s.name {
			names = append(names, l.Items[i].Name)
		}
	}
	return names
}

const handMade = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadOnlyMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: SPACE, name: theirs}
  local: {path: PATH}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n2]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: theirs}
spec: {accessModes: [ReadOnlyMany], storageClassName: "", resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  volumes: [{name: v, persistentVolumeClaim: {claimName: theirs, readOnly: true}}]
  containers: [{name: main, image: IMAGE, args: [show, /data/mine], volumeMounts: [{name: v, mountPath: /data}]}]
`

// TestVolumesByHand: a folder that somebody has on one node is a volume there, and stays when its claim goes.
func TestVolumesByHand(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("made by hand"), 0o644); err != nil { //nolint:gosec // the container reads it
		t.Fatal(err)
	}
	name := "by-hand-" + s.name
	t.Cleanup(func() {
		if out, err := shared.Kubectl(context.Background(), "", "delete", "pv", name, "--ignore-not-found"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	s.kubectlArgs(manifestOf(strings.NewReplacer("NAME", name, "SPACE", s.name, "PATH", dir).Replace(handMade)), "apply", "-f", "-")
	if p := s.ended("reader"); p.Spec.NodeName != "n2" || p.Status.Phase != corev1.PodSucceeded {
		t.Errorf("reader ended as %s on %s", p.Status.Phase, p.Spec.NodeName)
	}
	s.logs("made by hand", "reader")
	s.kubectl("delete pod reader")
	s.kubectl("delete pvc theirs")
	await(s, "volume released", "pv "+name, func(v corev1.PersistentVolume) bool { return v.Status.Phase == corev1.VolumeReleased })
	s.wants(s.read(filepath.Join(dir, "mine")), "made by hand")
	immediate := `{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "hasty"}, "provisioner": "skerry.dev/local"}`
	s.wants(s.refused(immediate, "apply", "-f", "-"), fmt.Sprintf("volumeBindingMode: Unsupported value: %q", "Immediate"))
}
