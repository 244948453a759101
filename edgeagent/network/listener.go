package network

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// EarlyListener listens at an address, such as NodeLocal, that need not be on a link yet.
func EarlyListener() net.ListenConfig {
	return net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, failed)
	}}
}
