package idrange

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// Count is how many IDs a pod has: all that images commonly use.
const Count = 1 << 16

// Ranges lie where systemd keeps such numbers for containers (systemd.io/UIDS-GIDS), which distributions give to nobody.
const (
	Lowest = 0x80000 // the first ID of all ranges
	blocks = (0x70000000 - Lowest) / Count
)

// ErrUsedUp says that every range belongs to a pod.
var ErrUsedUp = errors.New("every range of user IDs is in use")

// Range is what a pod's IDs 0 to Count-1 are outside. The zero value means that they are the same.
type Range struct {
	First uint32 `json:"first,omitempty"`
}

// IsZero is true for a pod without a user namespace.
func (r Range) IsZero() bool { return r.First == 0 }

var ownerPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// Ledger remembers who has which range. Its methods may be called concurrently.
type Ledger struct {
	dir string
	mu  sync.Mutex
}

// NewLedger keeps the ranges in dir, which need not exist.
func NewLedger(dir string) *Ledger { return &Ledger{dir: dir} }

// Claim returns the pod's range, which it keeps until Release, also across a reboot. A claim is a link that the kernel makes only if there
// is none of that name, so two pods never get one range, whatever dies in between.
func (l *Ledger) Claim(uid string) (Range, error) {
	if !ownerPattern.MatchString(uid) {
		return Range{}, fmt.Errorf("pod uid %q is not a file name", uid)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	held, err := l.held()
	if err != nil {
		return Range{}, fmt.Errorf("claim user IDs: %w", err)
	}
	for r, owner := range held {
		if owner == uid {
			return r, nil
		}
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return Range{}, fmt.Errorf("claim user IDs: %w", err)
	}
	return l.claim(uid, held)
}

// claim starts at a place that the UID names, so that ranges rest before they are used again, and nodes that share a machine take
// different ones.
func (l *Ledger) claim(uid string, held map[Range]string) (Range, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid)) // never fails
	for i := range uint32(blocks) {
		r := Range{First: Lowest + (h.Sum32()%blocks+i)%blocks*Count}
		if held[r] != "" {
			continue
		}
		err := os.Symlink(uid, l.path(r))
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return Range{}, fmt.Errorf("claim user IDs: %w", err)
		}
	}
	return Range{}, ErrUsedUp
}

// Release gives back what the pod holds. Nothing of it may run any more.
func (l *Ledger) Release(uid string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	held, err := l.held()
	for r, owner := range held {
		if owner == uid {
			err = errors.Join(err, ignoreMissing(os.Remove(l.path(r))))
		}
	}
	if err != nil {
		return fmt.Errorf("release user IDs: %w", err)
	}
	return nil
}

// Owners lists the pods that hold a range, sorted.
func (l *Ledger) Owners() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held, err := l.held()
	owners := make([]string, 0, len(held))
	for _, owner := range held {
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	return owners, err
}

func (l *Ledger) path(r Range) string {
	return filepath.Join(l.dir, strconv.FormatUint(uint64(r.First), 10))
}

// held reads who has what. What is not a link named like a range is none of ours.
func (l *Ledger) held() (map[Range]string, error) {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	held := make(map[Range]string, len(entries))
	for _, e := range entries {
		first, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || e.Type() != fs.ModeSymlink {
			continue
		}
		owner, err := os.Readlink(filepath.Join(l.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		held[Range{First: uint32(first)}] = owner
	}
	return held, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
