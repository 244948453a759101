// Package server starts the API servers that are measured and reads what they use.
package server

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

// Limit bounds whatever a server is waited for, on a machine that is busy with other things.
const Limit = 2 * time.Minute

// Server is an API server under measurement.
type Server struct {
	Name   string
	dir    string
	config *rest.Config // address, CA and token; nothing else
	api    *process.Process
	store  *process.Process // nil when the API server holds its state itself
	// launch starts the API server, again after a stop on the same state.
	launch func() (*process.Process, error)
	// secure fills in config with what the API server has written down for its clients.
	secure func(*rest.Config) error

	requests atomic.Int64
}

// URL is where the server listens.
func (s *Server) URL() string { return s.config.Host }

// HasStore reports whether the server's state is kept by a process of its own.
func (s *Server) HasStore() bool { return s.store != nil }

// Number is never the same: no two requests to a server that change something are to be alike.
func (s *Server) Number() int64 { return s.requests.Add(1) }

// Start starts the API server and returns how long it took from the start of the process to the first answered GET.
func (s *Server) Start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	var err error
	if s.api, err = s.launch(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, errors.New("not ready in time"))
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
			return 0, fmt.Errorf("start %s: %w: %w", s.Name, context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// answers asks for an object that every cluster has.
func (s *Server) answers(ctx context.Context) error {
	if err := s.secure(s.config); err != nil {
		return err
	}
	client, err := s.Client(JSON, false)
	if err != nil {
		return err
	}
	defer client.Client.CloseIdleConnections()
	return client.Get().Resource("namespaces").Name("default").MaxRetries(0).Do(ctx).Error()
}

// Restart stops the API server and starts it on the state that it has.
func (s *Server) Restart(ctx context.Context) (time.Duration, error) {
	if err := s.api.Stop(); err != nil {
		return 0, err
	}
	return s.Start(ctx)
}

// Stop ends all its processes and removes its files.
func (s *Server) Stop() error {
	var err error
	for _, p := range []*process.Process{s.api, s.store} {
		if p != nil {
			err = errors.Join(err, p.Stop())
		}
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Usage is what a server's processes have used of the CPU.
type Usage struct{ API, Store time.Duration }

// CPU is what the server's processes have used so far.
func (s *Server) CPU() (Usage, error) {
	var u Usage
	var err error
	if u.API, err = process.CPU(s.api.PID()); err != nil || s.store == nil {
		return u, err
	}
	u.Store, err = process.CPU(s.store.PID())
	return u, err
}

// Since is what was used from before to u.
func (u Usage) Since(before Usage) Usage { return Usage{u.API - before.API, u.Store - before.Store} }

// Total is that of all processes.
func (u Usage) Total() time.Duration { return u.API + u.Store }

// Per is the usage of one of that many operations.
func (u Usage) Per(operations int) Usage {
	n := time.Duration(max(operations, 1))
	return Usage{u.API / n, u.Store / n}
}

// Resident is the memory of the API server and of its store; the latter is zero when it holds its state itself.
func (s *Server) Resident() (api, store int64, err error) {
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
