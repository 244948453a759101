package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// execStream runs a process on the peer's descriptors or a terminal that it gets; the connection is the session, and ends with it.
func (t *dialogue) execStream(ctx context.Context, f wire.Frame, files []*os.File) error {
	req, spec, err := execRequest(f)
	if err != nil {
		return t.done(f, err)
	}
	e, err := sessionEnds(req, spec, files)
	if err != nil {
		return t.done(f, err)
	}
	proc, err := t.startExec(ctx, req.ID, spec, e)
	if err != nil {
		e.closeOwn()
		return t.done(f, fmt.Errorf("exec in %s: %w", req.ID, err))
	}
	defer t.orphans.buried(proc.pid)
	defer proc.close()
	err = t.announce(f, proc, e)
	e.closeOwn()
	if err != nil {
		return errors.Join(err, proc.killGroup(), endOf(ctx, proc))
	}
	return t.session(ctx, f, proc)
}

func endOf(ctx context.Context, proc *process) error {
	_, err := proc.wait(context.WithoutCancel(ctx)) // it has been killed: this ends
	return err
}

func (t *dialogue) session(ctx context.Context, f wire.Frame, proc *process) error {
	var end ending
	var waitErr error
	err := t.untilHangup(ctx, func(ctx context.Context) error {
		end, _, waitErr = awaitExec(ctx, proc, 0)
		return nil
	})
	if err != nil {
		return err
	}
	if waitErr != nil {
		return t.done(f, waitErr)
	}
	return t.send(wire.Frame{Op: f.Op}, keeper.ExecResult{ExitCode: end.code})
}

// sessionEnds sorts the descriptors that came along, or makes a console.
func sessionEnds(req wire.Exec, spec keeper.ExecSpec, files []*os.File) (*ends, error) {
	e := &ends{}
	if spec.Terminal {
		return e, e.openConsole()
	}
	var err error
	e.stdin, e.stdout, e.stderr, err = sorted(req.Has, files)
	return e, err
}

// sorted says which of the descriptors that came along is which stream; nil for one that did not.
func sorted(has [3]bool, files []*os.File) (stdin, stdout, stderr *os.File, err error) {
	for i, end := range []**os.File{&stdin, &stdout, &stderr} {
		if !has[i] {
			continue
		}
		if len(files) == 0 {
			return nil, nil, nil, fmt.Errorf("fewer descriptors than announced: %w", keeper.ErrInvalid)
		}
		*end, files = files[0], files[1:]
	}
	return stdin, stdout, stderr, nil
}

// announce tells the peer that the process runs, with its terminal if it has one.
func (t *dialogue) announce(f wire.Frame, proc *process, e *ends) error {
	if err := e.receiveTerminal(); err != nil {
		return err
	}
	var terminal []*os.File
	for _, src := range e.sources {
		terminal = append(terminal, src.file)
	}
	return t.send(wire.Frame{Op: f.Op, More: true}, wire.Started{PID: proc.pid}, terminal...)
}
