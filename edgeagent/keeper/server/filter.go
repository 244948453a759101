package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/seccomp"
)

// maxProfileBytes bounds a Localhost profile's file. The default profile has 18 kB.
const maxProfileBytes = 1 << 20

// maxFilters bounds the cache: a node's pods ask for few different sets of capabilities.
const maxFilters = 64

// filters compiles seccomp profiles, each once per set of capabilities.
type filters struct {
	dir       string // of Localhost profiles
	supported bool   // by the kernel

	mu    sync.Mutex
	known map[[sha256.Size]byte][]byte
}

func newFilters(dir string) *filters {
	return &filters{dir: dir, supported: seccomp.Supported(), known: map[[sha256.Size]byte][]byte{}}
}

// of returns the encoded program for spec, nil for none. Who asks for no profile gets the default one, unless the kernel has no filters;
// who asks for one gets it or an error.
func (f *filters) of(spec *keeper.Spec, capabilities []string) ([]byte, error) {
	name := spec.SeccompProfile
	switch {
	case spec.Privileged, name == keeper.SeccompUnconfined, name == "" && !f.supported:
		return nil, nil
	case !f.supported:
		return nil, fmt.Errorf("seccomp profile %q: the kernel has no seccomp filters: %w", name, keeper.ErrUnsupported)
	case name == "", name == keeper.SeccompRuntimeDefault:
		return f.cached(nil, capabilities, func() (*specs.LinuxSeccomp, error) { return seccomp.Default(capabilities) })
	}
	text, err := f.read(strings.TrimPrefix(name, keeper.SeccompLocalhost))
	if err == nil {
		var program []byte
		program, err = f.cached(text, capabilities, func() (*specs.LinuxSeccomp, error) { return seccomp.Parse(text, capabilities) })
		if err == nil {
			return program, nil
		}
	}
	return nil, fmt.Errorf("seccomp profile %q: %w: %w", name, keeper.ErrInvalid, err)
}

// openStage prepares the second stage of a new container. What a Localhost profile says now holds for every later exec, whatever happens
// to its file.
func (s *Server) openStage(spec *keeper.Spec) (*stage, error) {
	program, err := s.filter(spec)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(spec.SeccompProfile, keeper.SeccompLocalhost) {
		if err := os.WriteFile(s.shelf.path(spec.ID, filterFile), program, 0o600); err != nil {
			return nil, err
		}
	}
	return openStage(program)
}

// joinStage prepares the second stage of an exec.
func (s *Server) joinStage(spec *keeper.Spec) (*stage, error) {
	if strings.HasPrefix(spec.SeccompProfile, keeper.SeccompLocalhost) {
		program, err := os.ReadFile(s.shelf.path(spec.ID, filterFile))
		if err != nil {
			return nil, fmt.Errorf("seccomp filter of the container: %w", err)
		}
		return openStage(program)
	}
	program, err := s.filter(spec)
	if err != nil {
		return nil, err
	}
	return openStage(program)
}

func (s *Server) filter(spec *keeper.Spec) ([]byte, error) {
	caps, err := capabilitiesOf(spec, s.machine)
	if err != nil {
		return nil, err
	}
	return s.filters.of(spec, caps.Bounding)
}

// read opens a profile by its name below the folder, and nothing else by links or dots.
func (f *filters) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()                              // a descriptor of a folder
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not make us wait
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxProfileBytes+1))
	if err == nil && len(text) > maxProfileBytes {
		err = fmt.Errorf("more than %d bytes", maxProfileBytes)
	}
	return text, err
}

// cached compiles a profile unless its text has been compiled for these capabilities before.
func (f *filters) cached(text []byte, capabilities []string, profile func() (*specs.LinuxSeccomp, error)) ([]byte, error) {
	sorted := slices.Sorted(slices.Values(capabilities))
	key := sha256.Sum256(append([]byte(strings.Join(sorted, " ")+"\n"), text...))
	f.mu.Lock()
	defer f.mu.Unlock()
	if program := f.known[key]; program != nil {
		return program, nil
	}
	p, err := profile()
	if err != nil {
		return nil, err
	}
	compiled, err := seccomp.Compile(p)
	if err != nil {
		return nil, err
	}
	if len(f.known) >= maxFilters {
		clear(f.known)
	}
	f.known[key] = compiled.Encode()
	return f.known[key], nil
}
