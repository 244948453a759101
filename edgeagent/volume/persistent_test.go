package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/messaging"
)

const withClaims = `
containers: [{name: c, volumeMounts: [{name: kept, mountPath: /kept}, {name: kept, mountPath: /part, subPath: a/b}, {name: theirs, mountPath: /theirs}]}]
volumes:
- {name: kept, persistentVolumeClaim: {claimName: data}}
- {name: theirs, persistentVolumeClaim: {claimName: hand, readOnly: true}}
`

// withVolumes is a pod whose claims are bound: one to a volume kept here, one to somebody's folder.
func withVolumes(t *testing.T) (v *Volumes, refs resolve.Refs, theirs string) {
	t.Helper()
	needRoot(t)
	v, refs = setUp(t, withClaims)
	theirs = t.TempDir()
	refs.Claims = map[string]messaging.Claim{"data": {Volume: "pvc-1"}, "hand": {Path: theirs, Type: "Directory"}}
	return v, refs, theirs
}

func TestVolumesOutliveTheirPods(t *testing.T) {
	v, refs, theirs := withVolumes(t)
	must(t, v.Prepare(refs))
	kept := filepath.Join(v.persistent, "pvc-1")
	must(t, os.WriteFile(filepath.Join(kept, "file"), []byte("mine"), 0o600))
	must(t, os.WriteFile(filepath.Join(theirs, "file"), []byte("theirs"), 0o600))
	mounts, err := v.Attach(refs.Pod, &refs.Pod.Spec.Containers[0], nil)
	must(t, err)
	if mounts[0].Source != kept || mounts[0].ReadOnly || mounts[2].Source != theirs || !mounts[2].ReadOnly {
		t.Errorf("mounts %+v", mounts)
	}
	if info, err := os.Stat(filepath.Join(kept, "a/b")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("subPath: %v, %v", info, err)
	}
	must(t, os.Chmod(kept, 0o750)) // as a container might
	must(t, v.Prepare(refs))
	must(t, v.Remove("u1"))
	if got := read(t, filepath.Join(kept, "file")); got != "mine" {
		t.Errorf("the pod's removal left %q of its volume", got)
	}
	if got := read(t, filepath.Join(theirs, "file")); got != "theirs" {
		t.Errorf("the pod's removal left %q of somebody's folder", got)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the volume's mode was changed back: %v, %v", info, err)
	}
}

func TestDiscard(t *testing.T) {
	v, refs, _ := withVolumes(t)
	must(t, v.Prepare(refs))
	kept := filepath.Join(v.persistent, "pvc-1")
	must(t, os.MkdirAll(filepath.Join(kept, "deep/er"), 0o700))
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o600))
	must(t, os.Symlink(outside, filepath.Join(kept, "link"))) // as a container might
	if err := v.Discard("pvc-1"); !errors.Is(err, ErrInUse) {
		t.Errorf("discarded under a pod: %v", err)
	}
	must(t, v.Remove("u1"))
	for range 2 { // it may be repeated
		must(t, v.Discard("pvc-1"))
		if _, err := os.Lstat(kept); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the volume is still there: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("what a link in the volume led to: %v", err)
	}
}

func TestVolumeNamesAreNames(t *testing.T) {
	v, refs, _ := withVolumes(t)
	for _, name := range []string{"..", ".", "a/b", "../../etc", "/etc", "A"} {
		refs.Claims = map[string]messaging.Claim{"data": {Volume: name}, "hand": refs.Claims["hand"]}
		if err := v.Prepare(refs); err == nil {
			t.Errorf("made a volume called %q", name)
		}
		if err := v.Discard(name); err == nil {
			t.Errorf("discarded a volume called %q", name)
		}
	}
	if err := v.Discard(""); err == nil {
		t.Error("discarded a volume without a name")
	}
}

func TestClaimsThatAreNotBound(t *testing.T) {
	v, refs, theirs := withVolumes(t)
	refs.Claims = nil
	var missing *resolve.MissingError
	if err := v.Prepare(refs); !errors.As(err, &missing) || missing.Kind != "bound persistentvolumeclaim" {
		t.Errorf("prepared claims that are not bound: %v", err)
	}
	refs.Claims = map[string]messaging.Claim{"data": {Volume: "pvc-1"}, "hand": {Path: filepath.Join(theirs, "nope"), Type: "Directory"}}
	if err := v.Prepare(refs); err == nil {
		t.Error("prepared a local volume whose folder is not there")
	}
}

func TestVolumeBelongsToTheGroup(t *testing.T) {
	v, refs, _ := withVolumes(t)
	group := int64(2000)
	refs.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	must(t, v.Prepare(refs))
	info, err := os.Stat(filepath.Join(v.persistent, "pvc-1"))
	must(t, err)
	if info.Mode()&os.ModeSetgid == 0 || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v", info.Mode())
	}
}
