package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper/server/seccomp"
)

// stage is what the keeper and the second stage of a new process (see init.go) talk about besides libcontainer's own affairs: the seccomp
// filter. libcontainer would compile it again, in C, for every process. Here the keeper sends the program, the second stage installs it
// where libcontainer would have, and says so; whoever does not say so is killed.
//
// The places are known by what libcontainer logs there, which is no interface of it: another version may log something else. Then no
// process with a filter starts any more, and every test says so.
type stage struct {
	ours, theirs *os.File // ours is nil without a filter
}

// stageFD is where the second stage finds its end: the first of the files that are passed on.
const stageFD = 3

// stagePatience bounds how long the second stage may take to say that it has installed its filter, once libcontainer calls it ready.
const stagePatience = 10 * time.Second

// stageDone is the word of the second stage.
const stageDone = 1

// openStage prepares to send the encoded program; an empty one means no filter.
func openStage(program []byte) (*stage, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make stage socket: %w", os.NewSyscallError("socketpair", err))
	}
	s := &stage{theirs: os.NewFile(uintptr(pair[1]), "stage")}
	err = unix.SetNonblock(pair[0], true)
	s.ours = os.NewFile(uintptr(pair[0]), "stage")
	if err == nil {
		_, err = s.ours.Write(program) // far smaller than the socket's buffer
	}
	if err == nil {
		err = unix.Shutdown(pair[0], unix.SHUT_WR)
	}
	if err == nil && len(program) == 0 {
		err = s.ours.Close()
		s.ours = nil
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("fill stage socket: %w", err)
	}
	return s, nil
}

func (s *stage) close() {
	for _, f := range []*os.File{s.ours, s.theirs} {
		if f != nil {
			_ = f.Close() // it was shut down
		}
	}
}

func (s *stage) give(p *libcontainer.Process) { p.ExtraFiles = []*os.File{s.theirs} }

// await returns nil once the process is filtered as it should be.
func (s *stage) await() error {
	if s.ours == nil {
		return nil
	}
	if err := s.theirs.Close(); err != nil { // so that the process's end is the end
		return err
	}
	s.theirs = nil
	if err := s.ours.SetReadDeadline(time.Now().Add(stagePatience)); err != nil {
		return err
	}
	var word [1]byte
	if _, err := io.ReadFull(s.ours, word[:]); err != nil {
		return fmt.Errorf("the process did not install its seccomp filter: %w", err)
	}
	return nil
}

// enterStage is called in the second stage before libcontainer's own part.
func enterStage() error {
	unix.CloseOnExec(stageFD)
	file := os.NewFile(stageFD, "stage")
	data, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("read stage: %w", err)
	}
	if len(data) == 0 {
		return file.Close()
	}
	program, err := seccomp.Decode(data)
	if err != nil {
		return err
	}
	logrus.SetLevel(logrus.DebugLevel)
	logrus.AddHook(&filterHook{program: program, stage: file})
	return nil
}

// filterHook installs the filter at the right one of libcontainer's log messages. Hooks run on the thread that logs, which here is the one
// that will be the container's process.
type filterHook struct {
	program seccomp.Program
	stage   *os.File
	done    bool
}

// Levels is logrus.Hook's.
func (*filterHook) Levels() []logrus.Level { return []logrus.Level{logrus.DebugLevel} }

// Without no_new_privs a filter takes a privilege, so it is installed as soon as the parent says go, before capabilities are dropped;
// otherwise as late as possible, so that the profile need not allow what happens in between.
const (
	messageGo    = "read sync type:procRun"
	messageInit  = "init: closing the pipe to signal completion"
	messageExec  = "setns_init: about to exec"
	messageHello = "child process in init()"
)

// Fire is logrus.Hook's. An error ends the process: libcontainer reports the panic to the keeper.
func (h *filterHook) Fire(e *logrus.Entry) error {
	if e.Message == messageHello {
		e.Logger.SetFormatter(warnings{e.Logger.Formatter})
	}
	if h.done || !h.due(e.Message) {
		return nil
	}
	h.done = true
	err := h.program.Install()
	if err == nil {
		_, err = h.stage.Write([]byte{stageDone})
	}
	if err != nil {
		panic(err)
	}
	return nil
}

func (h *filterHook) due(message string) bool {
	switch message {
	case messageGo:
		noNewPrivs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		return err == nil && noNewPrivs == 0
	case messageInit, messageExec:
		return true
	default:
		return false
	}
}

// warnings keeps what libcontainer would not have logged without us out of its log.
type warnings struct{ logrus.Formatter }

// Format is logrus.Formatter's.
func (w warnings) Format(e *logrus.Entry) ([]byte, error) {
	if e.Level > logrus.WarnLevel {
		return nil, nil
	}
	if w.Formatter == nil {
		return nil, errors.New("no formatter")
	}
	return w.Formatter.Format(e)
}
