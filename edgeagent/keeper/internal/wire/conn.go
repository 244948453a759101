package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sendBufferBytes holds two of the largest packets and the kernel's own accounting for them.
const sendBufferBytes = 1 << 20

// Conn is one SEQPACKET connection. One goroutine may send while another receives; Close may be called from any.
type Conn struct {
	file   *os.File // non-blocking, so that deadlines work and waiting costs no thread
	closed atomic.Bool
}

// NewConn takes ownership of a connected SEQPACKET socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make socket non-blocking: %w", err), unix.Close(fd))
	}
	// Refused without CAP_NET_ADMIN; the default buffer then bounds packets, and a send beyond it fails with EMSGSIZE.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBufferBytes) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBufferBytes); err != nil {
			return nil, errors.Join(fmt.Errorf("set send buffer: %w", err), unix.Close(fd))
		}
	}
	return &Conn{file: os.NewFile(uintptr(fd), "keeper-socket")}, nil
}

// Dial connects to a keeper's socket. os.ErrNotExist and ECONNREFUSED mean that no keeper listens.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, errors.Join(&os.PathError{Op: "connect", Path: path, Err: err}, unix.Close(fd))
	}
	return NewConn(fd)
}

// Close ends the connection; a blocked Send or Recv returns os.ErrClosed.
func (c *Conn) Close() error {
	c.closed.Store(true)
	return c.file.Close()
}

// SetDeadline bounds pending and later sends and receives; the zero time removes the bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.file.SetDeadline(t) }

// Wake ends a pending receive and every later one with os.ErrDeadlineExceeded, and loses no packet: one that was received before is answered, one that was
// not is seen by its sender as unheard.
func (c *Conn) Wake() error { return c.file.SetReadDeadline(time.Unix(1, 0)) }

// Send writes one packet with its descriptors, which stay the caller's.
func (c *Conn) Send(packet []byte, files ...*os.File) error {
	if len(packet) > MaxFrameBytes || len(files) > MaxFiles {
		return fmt.Errorf("send %d bytes, %d descriptors: %w", len(packet), len(files), ErrTooLarge)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fd, err := number(f)
			if err != nil {
				return err
			}
			fds[i] = fd
		}
		rights = unix.UnixRights(fds...)
	}
	defer runtime.KeepAlive(files)
	err := c.write(func(fd int) error {
		_, err := unix.SendmsgN(fd, packet, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return err
	})
	if errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("%w: %w", ErrUnheard, err)
	}
	return err
}

// number returns f's descriptor without making it blocking, as File.Fd would.
func number(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
	}
	n := -1
	if err := raw.Control(func(fd uintptr) { n = int(fd) }); err != nil {
		return -1, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
	}
	return n, nil
}

// Recv reads one packet and its descriptors, which become the caller's. io.EOF means that the peer has gone.
func (c *Conn) Recv() ([]byte, []*os.File, error) {
	size, err := c.peek()
	if err != nil {
		return nil, nil, err
	}
	packet, rights := make([]byte, size), make([]byte, unix.CmsgSpace(MaxFiles*4))
	var n, rn, flags int
	err = c.read(func(fd int) (err error) {
		n, rn, flags, _, err = unix.Recvmsg(fd, packet, rights, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	files, err := received(rights[:rn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = ErrTooLarge
	}
	if err != nil {
		CloseAll(files)
		return nil, nil, err
	}
	return packet[:n], files, nil
}

// peek waits for a packet and returns its size, so that each receive allocates what it needs and no more.
func (c *Conn) peek() (int, error) {
	var size int
	err := c.read(func(fd int) (err error) {
		var probe [1]byte
		size, _, err = unix.Recvfrom(fd, probe[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		return err
	})
	switch {
	case errors.Is(err, unix.ECONNRESET):
		return 0, fmt.Errorf("%w: %w", io.EOF, ErrUnheard)
	case err != nil:
		return 0, err
	case size == 0: // an empty packet is not a frame: both mean that nothing sensible will follow
		return 0, io.EOF
	case size > MaxFrameBytes:
		return 0, ErrTooLarge
	}
	return size, nil
}

// Alive reports whether the peer has neither closed the connection nor sent something unasked.
func (c *Conn) Alive() bool {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		var probe [1]byte
		_, _, err := unix.Recvfrom(int(fd), probe[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && alive
}

// Hangup blocks until the peer closes or sends anything, or the connection's deadline passes.
func (c *Conn) Hangup() {
	_ = c.read(func(fd int) error { // any outcome ends the wait: that is all the caller asks
		var probe [1]byte
		_, _, err := unix.Recvfrom(fd, probe[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err
	})
}

// PeerUID returns the user that opened the other end, as the kernel recorded it at connect.
func (c *Conn) PeerUID() (uint32, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	return cred.Uid, nil
}

func (c *Conn) read(call func(fd int) error) error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Read(func(fd uintptr) bool {
		callErr = retried(int(fd), call)
		return !errors.Is(callErr, unix.EAGAIN)
	})
	return c.outcome(err, callErr)
}

func (c *Conn) write(call func(fd int) error) error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Write(func(fd uintptr) bool {
		callErr = retried(int(fd), call)
		return !errors.Is(callErr, unix.EAGAIN)
	})
	return c.outcome(err, callErr)
}

// outcome joins the poller's error and the call's. The poller has an unexported error for a closed file, which means what os.ErrClosed does.
func (c *Conn) outcome(waitErr, callErr error) error {
	if waitErr != nil && c.closed.Load() {
		return os.ErrClosed
	}
	return errors.Join(waitErr, callErr)
}

func retried(fd int, call func(fd int) error) error {
	for {
		if err := call(fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// received turns control data into files. On error nothing stays open.
func received(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(files)
			return nil, fmt.Errorf("parse descriptors: %w", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes received descriptors that will not be used.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written through it
	}
}
