package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// execPipe is where libcontainer's first process waits, by its name in the container's state folder.
const execPipe = "exec.fifo"

const (
	// releaseStep is how often the process is checked for life while we wait for its word.
	releaseStep = 50 * time.Millisecond
	// releaseLimit bounds the whole wait: a second stage that is alive answers in microseconds.
	releaseLimit = 10 * time.Second
)

// release lets the waiting process go. libcontainer's own Container.Exec would do, but would wait for ever when the process had been
// released by a keeper that crashed just then; this may be repeated.
func (s *Server) release(run context.Context, c *container) error {
	path := filepath.Join(s.libRoot(), c.id, execPipe)
	// Opened for writing too, so that an empty pipe is not mistaken for the end of one.
	pipe, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // released before
	}
	if err != nil {
		return err
	}
	defer func() { _ = pipe.Close() }() // it is about to be removed
	for limit := time.Now().Add(releaseLimit); ; {
		if err := pipe.SetReadDeadline(time.Now().Add(releaseStep)); err != nil {
			return err
		}
		var word [1]byte
		_, err := pipe.Read(word[:])
		switch {
		case err == nil:
			return os.Remove(path)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.isOver():
			return fmt.Errorf("the process ended before it was started")
		case run.Err() != nil:
			return context.Cause(run)
		case time.Now().After(limit):
			return errors.New("the process does not answer")
		}
	}
}

func (c *container) isOver() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}
