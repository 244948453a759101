package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// ownership is who is to have a volume that outlives pods: SetVolumeOwnership of the kubelet's pkg/volume.
type ownership struct {
	group  int  // negative for nobody in particular
	always bool // whatever the volume's folder says
}

// ownershipOf is what the pod asks for. Only a volume that is new to the pod is looked through in any case: preparing it again, which happens
// whenever the pod changes, must not take as long as there are files.
func ownershipOf(pod *corev1.Pod, fresh bool) ownership {
	o := ownership{group: fsGroup(pod), always: fresh}
	if c := pod.Spec.SecurityContext; c != nil && c.FSGroupChangePolicy != nil && *c.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch {
		o.always = false
	}
	return o
}

// modes that the group gets: it may read and write, and enter folders, in which new files are its own as well.
const (
	groupFile   = 0o660
	groupFolder = 0o770 | os.ModeSetgid
	openFolder  = 0o777 | os.ModeSetgid // the volume's own: containers of any user may write
)

// apply gives the folder name in root with all that is in it to the group. The folder comes last: one that is right says that
// all else was done once. Links are not followed, and none leads out of the volume meanwhile.
func (o ownership) apply(root *os.Root, name string) error {
	if !o.always && o.owns(root, name) {
		return nil
	}
	inside, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer func() { _ = inside.Close() }() // a descriptor of a folder
	err = fs.WalkDir(inside.FS(), ".", func(path string, entry fs.DirEntry, err error) error { return o.visit(inside, path, entry, err) })
	if err != nil {
		return fmt.Errorf("give volume %s to group %d: %w", name, o.group, err)
	}
	if err := root.Chown(name, -1, o.group); err != nil {
		return err
	}
	return root.Chmod(name, openFolder)
}

// visit is the step of a walk through the volume. What cannot be read ends it: the folder must not say that all was done.
func (o ownership) visit(root *os.Root, path string, entry fs.DirEntry, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed since
		return nil
	case err != nil || path == ".": // the volume's own folder comes last
		return err
	default:
		return o.give(root, path, entry)
	}
}

// owns says whether the folder is the group's already.
func (o ownership) owns(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Gid) == o.group && info.Mode()&openFolder == openFolder
}

func (o ownership) give(root *os.Root, path string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err == nil {
		err = root.Lchown(path, -1, o.group)
	}
	if err == nil && info.Mode()&fs.ModeSymlink == 0 {
		mode := info.Mode().Perm() | info.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky) | groupFile
		if info.IsDir() {
			mode |= groupFolder
		}
		err = root.Chmod(path, mode)
	}
	if errors.Is(err, fs.ErrNotExist) { // removed since
		return nil
	}
	return err
}
