package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/process"
)

// startLimit bounds a server's start on a machine that is busy with other things.
const startLimit = 2 * time.Minute

// server is an API server under measurement.
type server struct {
	name   string
	dir    string
	config *rest.Config // address, CA and token; nothing else
	api    *process.Process
	store  *process.Process // nil when the API server holds its state itself
	// launch starts the API server, again after a stop on the same state.
	launch func() (*process.Process, error)
	// secure fills in config with what the API server has written down for its clients.
	secure func(*rest.Config) error

	requests atomic.Int64 // that the benchmarks have numbered so far
}

// start starts the API server and returns how long it took from the start of the process to the first answered GET.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	var err error
	if s.api, err = s.launch(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("not ready in time"))
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			return time.Since(began), nil
		}
		if dead := s.api.Alive(); dead != nil {
			return 0, dead
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("start %s: %w: %w", s.name, context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// answers asks for an object that every cluster has.
func (s *server) answers(ctx context.Context) error {
	if err := s.secure(s.config); err != nil {
		return err
	}
	client, err := s.newClient(asJSON, false)
	if err != nil {
		return err
	}
	defer client.Client.CloseIdleConnections()
	return client.Get().Resource("namespaces").Name("default").MaxRetries(0).Do(ctx).Error()
}

// restart stops the API server and starts it on the state that it has.
func (s *server) restart(ctx context.Context) (time.Duration, error) {
	if err := s.api.Stop(); err != nil {
		return 0, err
	}
	return s.start(ctx)
}

// stop ends all its processes and removes its files.
func (s *server) stop() error {
	var err error
	for _, p := range []*process.Process{s.api, s.store} {
		if p != nil {
			err = errors.Join(err, p.Stop())
		}
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// usage is what a server's processes have used.
type usage struct{ api, store time.Duration }

func (s *server) cpu() (usage, error) {
	var u usage
	var err error
	if u.api, err = process.CPU(s.api.PID()); err != nil || s.store == nil {
		return u, err
	}
	u.store, err = process.CPU(s.store.PID())
	return u, err
}

func (u usage) since(before usage) usage { return usage{u.api - before.api, u.store - before.store} }

func (u usage) total() time.Duration { return u.api + u.store }

func (u usage) per(operations int) usage {
	n := time.Duration(max(operations, 1))
	return usage{u.api / n, u.store / n}
}

// resident is the memory of the API server and of its store; the latter is zero when it holds its state itself.
func (s *server) resident() (api, store int64, err error) {
	if api, err = process.ResidentBytes(s.api.PID()); err != nil || s.store == nil {
		return api, 0, err
	}
	store, err = process.ResidentBytes(s.store.PID())
	return api, store, err
}

// freePort finds a port of loopback that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%s is no TCP address", l.Addr())
	}
	return address.Port, nil
}

// program finds a program below the folder that `make bench` runs in.
func program(path ...string) (string, error) {
	full, err := filepath.Abs(filepath.Join(path...))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(full); err != nil {
		return "", fmt.Errorf("%w: run this as `make bench`, which builds it", err)
	}
	return full, nil
}
