package netns

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Activate makes a link of the calling thread's network namespace, whose other end has just come up, able to send now.
// The kernel does that in the background, up to a second later, and drops what is sent before: the first connection would
// hang until TCP tries again. Asking for the link's state through ethtool makes the kernel catch up first.
func Activate(link string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(socket) }() // nothing was written to it
	value := ethtoolValue{command: unix.ETHTOOL_GLINK}
	request := ethtoolRequest{value: &value}
	copy(request.link[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("activate link %s: %w", link, errno)
	}
	return nil
}

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct {
	command uint32
	_       uint32 // the kernel answers here
}

// ethtoolRequest is struct ifreq of linux/if.h with the pointer of its union.
type ethtoolRequest struct {
	link  [unix.IFNAMSIZ]byte
	value *ethtoolValue
	_     [24 - unsafe.Sizeof(uintptr(0))]byte
}
