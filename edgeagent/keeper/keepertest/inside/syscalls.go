package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// syscalls makes calls that filters forbid and prints what the kernel says, and how this process is filtered.
func syscalls(args []string) error {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	say("keyctl", err)
	_, err = unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	say("socket(AF_ALG)", err)
	say("unshare", unix.Unshare(unix.CLONE_NEWNS))
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0) // without arguments: a kernel that lets it through says EINVAL
	say("clone3", errno)
	_, _, errno = unix.RawSyscall(5000, 0, 0, 0)
	say("call 5000", errno)
	_, _, errno = unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	say("getpid", errno)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Seccomp:") {
			fmt.Print(line)
		}
	}
	if len(args) > 0 {
		return sleep(nil)
	}
	return nil
}

func say(what string, err error) {
	if err == nil || err == unix.Errno(0) { //nolint:errorlint // a bare number
		fmt.Println(what + ": no error")
		return
	}
	fmt.Println(what+":", err)
}
