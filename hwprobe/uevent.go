package hwprobe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxUevent is the kernel's own limit of a message, UEVENT_BUFFER_SIZE, with room for the header.
const maxUevent = 4 << 10

// uevents puts a token into events for each message of the kernel that is about hardware, until ctx ends.
func uevents(ctx context.Context, events chan<- struct{}) error {
	socket, err := ueventSocket()
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })() // wakes the read below; a socket can
	buf := make([]byte, maxUevent)
	for {
		n, err := socket.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS): // too many at once: some are lost, and one may have been about hardware
		case err != nil:
			return fmt.Errorf("read uevents: %w", err)
		case !aboutHardware(buf[:n]):
			continue
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

// ueventSocket hears the kernel's multicast group; that of udev, 2, has other messages.
func ueventSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd) // the bind's error says more
		return nil, fmt.Errorf("listen to uevents: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// aboutHardware reads the head of a message, "add@/devices/pci0000:00/...". Links of pods, loop devices, modules and slabs
// come and go all the time on a busy node and are not what we look for.
func aboutHardware(message []byte) bool {
	head, _, _ := bytes.Cut(message, []byte{0})
	_, path, ok := bytes.Cut(head, []byte("@"))
	return ok && bytes.HasPrefix(path, []byte("/devices/")) && !bytes.HasPrefix(path, []byte("/devices/virtual/"))
}
