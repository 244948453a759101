package server

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is the kernel's siginfo_t for SIGCHLD, of which the library names only the head. The fields after it are aligned as a
// pointer is.
type childInfo struct {
	signo, errno, code int32
	_                  [0]uintptr
	pid, uid, status   int32
	_                  [128 - 24]byte
}

// firstDead returns the number of a dead child without reaping it, zero for none.
func firstDead() (int, error) {
	var info childInfo
	err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	switch {
	case errors.Is(err, unix.ECHILD):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("waitid", err)
	}
	return int(info.pid), nil
}
