package containerspec

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal reads a stop signal by name ("SIGTERM", "TERM") or number. What cannot be read is SIGTERM, as in containerd: a
// container must be stoppable whatever its image says.
func Signal(s string) syscall.Signal {
	s = strings.ToUpper(strings.TrimSpace(s))
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	if rt, ok := strings.CutPrefix(strings.TrimPrefix(s, "SIG"), "RTMIN+"); ok {
		if n, err := strconv.Atoi(rt); err == nil && n >= 0 && n <= 30 {
			return syscall.Signal(34 + n)
		}
	}
	if !strings.HasPrefix(s, "SIG") {
		s = "SIG" + s
	}
	if sig := unix.SignalNum(s); sig != 0 {
		return sig
	}
	return syscall.SIGTERM
}
