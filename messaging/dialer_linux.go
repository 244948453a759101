package messaging

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unackedTime is how long sent bytes may stay unacknowledged before the kernel gives the connection up. Heartbeats keep
// bytes on the way, so a dead link is noticed within it, and a healed one is not waited for with TCP's doubled pauses.
const unackedTime = 10 * time.Second

// linkDialer dials TCP that notices a dead link.
func linkDialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		if err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTime.Milliseconds()))
		}); err != nil {
			return err
		}
		return set
	}}
}
