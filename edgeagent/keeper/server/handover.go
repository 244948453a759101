package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"
)

// HandoverFormat is the version of what one image of the keeper leaves to the next: a Handover, and the records in the run folder. An image
// that cannot read the old one's is refused before the old one has given up anything.
const HandoverFormat = 1

// handoverVariable names the descriptor from which a new image reads the Handover.
const handoverVariable = "SKERRY_KEEPER_HANDOVER"

// Handover is what a keeper leaves to the program that takes its place by execve: the children stay those of the process, so that no exit code is
// lost, and what is open stays open. All numbers are descriptors of this process; zero is none. It is used once.
type Handover struct {
	Format     int                  `json:"format"`
	Socket     int                  `json:"socket"`
	Lock       int                  `json:"lock"`
	Containers map[string]*handover `json:"containers"`
}

// handover is one container. The pipes are passed on although they have names: an ended container's output is gone once nobody holds them.
type handover struct {
	Child    bool `json:"child,omitempty"` // nobody else can reap it
	Stdout   int  `json:"stdout,omitempty"`
	Stderr   int  `json:"stderr,omitempty"`
	Terminal int  `json:"terminal,omitempty"`
	Stdin    int  `json:"stdin,omitempty"`
}

// ReadHandover returns what the image before this one left, nil when there was none. Nobody else learns of it.
func ReadHandover() (*Handover, error) {
	text, ok := os.LookupEnv(handoverVariable)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(handoverVariable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd <= 2 {
		return nil, fmt.Errorf("handover: %s=%q is not a descriptor", handoverVariable, text)
	}
	file := os.NewFile(uintptr(fd), "handover")
	data, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	h := &Handover{}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if h.Format != HandoverFormat {
		return nil, fmt.Errorf("handover: format %d, want %d", h.Format, HandoverFormat)
	}
	return h, h.inherit(false)
}

// Exec puts the program at path in the place of this one, with this one's arguments. It returns only when that fails; then h can be
// used for a keeper in this process.
func (h *Handover) Exec(path string) error {
	file, err := h.write()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(file) }() // execve has failed
	if err := h.inherit(true); err != nil {
		return errors.Join(err, h.inherit(false))
	}
	// A second request for a new image must not end the new one before it listens.
	signal.Ignore(unix.SIGHUP)
	env := append(os.Environ(), handoverVariable+"="+strconv.Itoa(file))
	err = os.NewSyscallError("execve", unix.Exec(path, os.Args, env))
	return errors.Join(fmt.Errorf("replace keeper by %s: %w", path, err), h.inherit(false))
}

// write puts h into a file without a name, and returns its descriptor at the file's beginning.
func (h *Handover) write() (int, error) {
	data, err := json.Marshal(h)
	if err != nil {
		return -1, fmt.Errorf("handover: %w", err)
	}
	fd, err := unix.MemfdCreate("handover", 0)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if n, err := unix.Pwrite(fd, data, 0); err != nil || n != len(data) {
		return -1, errors.Join(fmt.Errorf("handover: %d of %d bytes written: %w", n, len(data), err), unix.Close(fd))
	}
	return fd, nil
}

// numbers are all descriptors of h.
func (h *Handover) numbers() []int {
	all := []int{h.Socket, h.Lock}
	for _, c := range h.Containers {
		all = append(all, c.Stdout, c.Stderr, c.Terminal, c.Stdin)
	}
	return all
}

// inherit says whether the descriptors outlive execve.
func (h *Handover) inherit(yes bool) error {
	flag := unix.FD_CLOEXEC
	if yes {
		flag = 0
	}
	var errs []error
	for _, fd := range h.numbers() {
		if fd == 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			errs = append(errs, fmt.Errorf("handover of descriptor %d: %w", fd, err))
		}
	}
	return errors.Join(errs...)
}

// take returns what was left of a container and forgets it; nil for one that was not handed over.
func (h *Handover) take(id string) *handover {
	if h == nil {
		return nil
	}
	c := h.Containers[id]
	delete(h.Containers, id)
	return c
}

// close frees what nobody took.
func (h *Handover) close() {
	if h == nil {
		return
	}
	for _, c := range h.Containers {
		c.close()
	}
}

func (h *handover) close() {
	for _, n := range []*int{&h.Stdout, &h.Stderr, &h.Terminal, &h.Stdin} {
		if f := fileOf(n, ""); f != nil {
			_ = f.Close() // of a container that is gone
		}
	}
}

// fileOf makes a file of a descriptor, which is then taken; nil for none.
func fileOf(n *int, name string) *os.File {
	if *n == 0 {
		return nil
	}
	f := os.NewFile(uintptr(*n), name)
	*n = 0
	return f
}

// keep returns a second descriptor of f, which stays open when f is closed; zero when it is closed already.
func keep(f *os.File) int {
	if f == nil {
		return 0
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { // fails only when closed
		if second, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); err == nil {
			n = second
		}
	})
	return n
}

// handOver collects what the next image gets. No request is being answered any more, and nobody waits for containers; pumps still work.
func (s *Server) handOver() *Handover {
	h := &Handover{Format: HandoverFormat, Socket: s.socket, Lock: keep(s.lock), Containers: map[string]*handover{}}
	for _, c := range s.all() {
		if one := c.handOver(); one != nil {
			h.Containers[c.id] = one
		}
	}
	return h
}

func (c *container) handOver() *handover {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil
	}
	h := &handover{Child: c.proc.child, Stdin: keep(c.stdin.held)}
	for _, src := range c.sources {
		switch {
		case c.stdin.terminal == src.file:
			h.Terminal = keep(src.file)
		case src.name == stdoutFile:
			h.Stdout = keep(src.file)
		default:
			h.Stderr = keep(src.file)
		}
	}
	return h
}
