package image

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/semaphore"

	"skerry.dev/skerry/packaging/oci"
)

// layersAtOnce is how many layers are fetched and unpacked at the same time: enough to keep a link busy while another
// layer unpacks, little enough for a small machine.
const layersAtOnce = 2

// Options configure a Store.
type Options struct {
	// Dir is the node's state folder. One Store at a time may use it.
	Dir string
	// Transports reach registries in other ways than over the network, by host: api.RegistryHost over the node's one
	// connection. Requests come with scheme http.
	Transports map[string]http.RoundTripper
	// PlainHTTP names registries that speak http. Those on this machine may do so anyway.
	PlainHTTP []string
	// Platform chooses from multi-platform images. The zero value means this machine's.
	Platform v1.Platform
	// Limits bound each layer. Zero values mean the defaults of package oci.
	Limits oci.Limits
	// Progress, if set, hears of layers being fetched, at most once a second for each. It must not block.
	Progress func(Progress)
	// Retry is the first wait after a broken transfer; it doubles. Zero means one second.
	Retry time.Duration
	Log   *slog.Logger
}

// Progress is how far a layer is.
type Progress struct {
	Ref    string // the image that asked first
	Digest string
	Done   int64 // bytes
	Total  int64 // bytes
}

// Store keeps images and mounts root file systems. Use New. All methods may be called concurrently.
type Store struct {
	opts Options
	log  *slog.Logger

	layers  flights
	slots   *semaphore.Weighted
	mounts  keyedMutex
	network http.RoundTripper

	step func(point string) // tests clone the disk here, to see what a crash would leave

	mu      sync.Mutex // guards what follows, and renames of layers into and out of their places
	records map[string]*record
	refs    map[string]string // name to manifest digest
	pins    map[string]int    // layers that a pull under way counts on, by diff id
}

// New opens the store below o.Dir, makes its folders and removes what a crash left half done.
func New(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("image store: no folder given")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Platform.Architecture == "" {
		o.Platform = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	s := &Store{
		opts: o, log: o.Log, slots: semaphore.NewWeighted(layersAtOnce), network: newTransport(),
		step:    func(string) {},
		layers:  flights{now: map[string]*flight{}},
		mounts:  keyedMutex{held: map[string]*keyLock{}},
		records: map[string]*record{}, refs: map[string]string{}, pins: map[string]int{},
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("open image store in %s: %w", o.Dir, err)
	}
	return s, nil
}

func (s *Store) prepare() error {
	if err := os.RemoveAll(s.path("images/tmp")); err != nil {
		return err
	}
	for _, dir := range []string{
		"images", "images/tmp", "images/parts", "images/layers", "images/parents", "images/records", "images/refs",
		"containers", "run/rootfs", "run/pulls",
	} {
		// Layers hold setuid programs of images: nobody but the agent's user may come near them.
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	// Those of user namespaces are no danger outside, and their owners come to them through this folder.
	for _, dir := range []string{"run", usersFolder} {
		if err := errors.Join(os.MkdirAll(s.path(dir), 0o711), os.Chmod(s.path(dir), 0o711)); err != nil {
			return err
		}
	}
	return s.load()
}

// path is below the state folder. Parts that are not constants are digests in hex or checked ids.
func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.opts.Dir}, parts...)...)
}

// newTransport is the default way to registries: like http.DefaultTransport, but a registry that takes a connection
// and then says nothing is given up.
func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = stallTimeout
	return t
}

// keyedMutex is one lock for each key in use.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	mu    sync.Mutex
	users int
}

// lock takes the lock of key; the function it returns gives it back.
func (k *keyedMutex) lock(key string) func() {
	k.mu.Lock()
	l := k.held[key]
	if l == nil {
		l = &keyLock{}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.held, key)
		}
	}
}
