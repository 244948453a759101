package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/messaging"
)

// ErrInUse says that a pod still has the volume whose data were to be removed.
var ErrInUse = errors.New("a pod on this node still has the volume")

// claim makes path, in the pod's folder, a link to the volume behind a claim, which it makes or checks first. The link
// says that the pod has the volume until the pod's folder goes, which is when nothing of the pod runs any more.
func (v *Volumes) claim(refs resolve.Refs, name, path string) error {
	claim, err := refs.Claim(name)
	if err != nil {
		return err
	}
	target := claim.Path
	if claim.Volume == "" {
		kind := corev1.HostPathType(claim.Type)
		err = hostPath(&corev1.HostPathVolumeSource{Path: claim.Path, Type: &kind})
	} else {
		target = filepath.Join(v.persistent, claim.Volume)
	}
	fresh := false
	if err == nil {
		fresh, err = link(target, path) // before the folder is made: from now on it is in use
	}
	if err == nil && claim.Volume != "" {
		err = v.keep(claim, ownershipOf(refs.Pod, fresh))
	}
	return err
}

// link points path at target, wherever it pointed before, and says whether it did not point there.
func link(target, path string) (fresh bool, err error) {
	if have, err := os.Readlink(path); err == nil && have == target {
		return false, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return true, os.Symlink(target, path)
}

// keep makes the folder of a volume, open to containers of any user, as an emptyDir is. What is in it stays; a pod's
// fsGroup gets it, what is in it, and what will be made in it.
func (v *Volumes) keep(claim messaging.Claim, o ownership) (err error) {
	root, err := v.openPersistent(claim.Volume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.Mkdir(claim.Volume, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if o.group >= 0 {
		return o.apply(root, claim.Volume)
	}
	info, err := root.Lstat(claim.Volume)
	if err != nil || info.Mode().Perm() == 0o777 {
		return err
	}
	if info.Mode().Perm() != 0o700 {
		return nil // somebody has set a mode of their own
	}
	return root.Chmod(claim.Volume, 0o777)
}

// openPersistent opens the folder of the volumes that outlive pods, which nobody else on the node may enter. A name that
// is no name is refused: it would become part of a path.
func (v *Volumes) openPersistent(name string) (*os.Root, error) {
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return nil, fmt.Errorf("volume %.80q: %s", name, faults[0])
	}
	if err := os.MkdirAll(v.persistent, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(v.persistent)
}

// Discard removes a volume with all that is in it. None is no error; ErrInUse says that a pod has it. It may be repeated,
// and when it has returned without an error the volume does not come back after a power cut.
func (v *Volumes) Discard(name string) (err error) {
	root, err := v.openPersistent(name)
	if err != nil {
		return fmt.Errorf("discard volume: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	used, err := v.inUse(filepath.Join(v.persistent, name))
	if err != nil {
		return fmt.Errorf("discard volume %s: %w", name, err)
	}
	if used {
		return fmt.Errorf("discard volume %s: %w", name, ErrInUse)
	}
	if err := root.RemoveAll(name); err != nil {
		return fmt.Errorf("discard volume %s: %w", name, err)
	}
	return syncFolder(v.persistent)
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// inUse reports whether a pod's folder has a link to the volume.
func (v *Volumes) inUse(target string) (bool, error) {
	pods, err := v.Pods()
	if err != nil {
		return false, err
	}
	for _, uid := range pods {
		dir := filepath.Join(v.dir, uid, volumesFolder)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, e := range entries {
			have, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err == nil && have == target {
				return true, nil
			}
		}
	}
	return false, nil
}
