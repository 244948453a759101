package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/tests/cluster"
)

// terminal is a program that believes a person sits before it.
type terminal struct {
	space
	*os.File // the person's end
	cmd      *exec.Cmd

	mu     sync.Mutex
	screen strings.Builder
}

// inTerminal starts kubectl in a terminal of 100 columns.
func (s space) inTerminal(args ...string) *terminal {
	s.Helper()
	person, program, err := openTerminal()
	if err != nil {
		s.Fatal(err)
	}
	t := &terminal{space: s, File: person}
	t.resize(40, 100)
	t.cmd = exec.Command(shared.Tool("kubectl"), s.in(args)...)
	t.cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.State0.Kubeconfig, "HOME="+s.TempDir(), "TERM=xterm")
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = program, program, program
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := t.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	_ = program.Close()
	go t.watch()
	s.Cleanup(func() {
		_ = t.cmd.Process.Kill() // it may have ended
		_ = person.Close()
	})
	return t
}

func openTerminal() (person, program *os.File, err error) {
	if person, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return person, program, err
}

// watch keeps what is on the screen until the program ends.
func (t *terminal) watch() {
	buf := make([]byte, 4096)
	for {
		n, err := t.Read(buf)
		t.mu.Lock()
		t.screen.Write(buf[:n])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *terminal) seen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.String()
}

func (t *terminal) resize(rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(t.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func (t *terminal) typeIn(text string) {
	t.Helper()
	if _, err := io.WriteString(t.File, text); err != nil {
		t.Fatal(err)
	}
}

// answers types a line until the screen shows want.
func (t *terminal) answers(line, want string) {
	t.Helper()
	t.poll(want, func() (bool, error) {
		if strings.Contains(t.seen(), want) {
			return true, nil
		}
		if _, err := io.WriteString(t.File, line+"\n"); err != nil {
			return false, cluster.Permanent(err)
		}
		return false, fmt.Errorf("the screen says %q", t.seen())
	})
}

// code waits for the program's end.
func (t *terminal) code() int {
	t.Helper()
	_ = t.cmd.Wait() // its code is what we return
	return t.cmd.ProcessState.ExitCode()
}
