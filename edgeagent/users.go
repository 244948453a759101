package edgeagent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/volume"
)

// probeUsers tries everything that a pod with a user namespace needs of this machine, and says what is missing. It is tried rather than
// looked up: kernels, file systems and what a node itself runs in differ in it.
func probeUsers(stateDir string, log *slog.Logger) error {
	err := tryUsers(stateDir)
	if err != nil {
		log.Warn("pods share the node's user IDs: it cannot make user namespaces", "err", err)
	}
	return err
}

func tryUsers(stateDir string) error {
	volumes := filepath.Join(stateDir, "pods")
	if err := os.MkdirAll(volumes, 0o700); err != nil {
		return err
	}
	const all = unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNS
	return netns.Owned(all, idrange.Lowest, idrange.Count, func(users string) error {
		return errors.Join(mountable("proc"), mountable("sysfs"), image.ProbeUsers(stateDir, users), volume.ProbeUsers(volumes, users))
	})
}

// mountable tries to mount a file system that shows the kernel's inside. The kernel refuses it where parts of the one that is there are
// covered, as in containers.
func mountable(kind string) error {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount %s: %w", kind, err)
	}
	if err = unix.FsconfigCreate(fs); err == nil {
		var mount int
		if mount, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err == nil {
			err = unix.Close(mount)
		}
	}
	if err = errors.Join(err, unix.Close(fs)); err != nil {
		return fmt.Errorf("mount %s in a user namespace: %w", kind, err)
	}
	return nil
}
