package netns

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owned runs fn on a thread inside fresh namespaces that belong to a fresh user namespace, whose IDs 0 to count-1 are those from first on
// outside; flags are as for Unshared, and CLONE_NEWNS. user is the path of the user namespace, in which the thread is not: a process with threads cannot
// enter one. All of it vanishes when fn returns unless fn made something else hold it.
func Owned(flags int, first, count uint32, fn func(user string) error) error {
	return onThread(func() error {
		holder, err := hold(flags, first, count)
		if err != nil {
			return fmt.Errorf("make user namespace: %w", err)
		}
		err = enter(holder.Pid, flags)
		if err == nil {
			err = fn(path(holder.Pid, "user"))
		}
		killErr := holder.Kill()
		_, waitErr := holder.Wait()
		return errors.Join(err, killErr, waitErr)
	})
}

// holderArg makes the program end at once should the holder ever run: it would, if we died while it waits for its tracer.
const holderArg = "version"

// hold starts a process that is the first of the namespaces. It is traced, so it stops before its first instruction; its tracer is the
// calling thread.
func hold(flags int, first, count uint32) (*os.Process, error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(first), Size: int(count)}}
	return os.StartProcess("/proc/self/exe", []string{os.Args[0], holderArg}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | uintptr(flags), UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true, Ptrace: true,
	}})
}

// enter takes the calling thread, which must be one that ends afterwards, into the namespaces of a process.
func enter(pid, flags int) error {
	if flags&unix.CLONE_NEWNS != 0 { // threads share their root and working folder, which a mount namespace must not be shared with
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
	}
	for kind, flag := range map[string]int{"net": unix.CLONE_NEWNET, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "mnt": unix.CLONE_NEWNS} {
		if flags&flag == 0 {
			continue
		}
		ns, err := os.Open(path(pid, kind))
		if err != nil {
			return err
		}
		err = unix.Setns(int(ns.Fd()), flag)
		if err = errors.Join(err, ns.Close()); err != nil {
			return fmt.Errorf("enter %s namespace: %w", kind, err)
		}
	}
	return nil
}

func path(pid int, kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }
