package device

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Claim is a device that a container has.
type Claim struct {
	UID       string `json:"uid"` // of the pod
	Container string `json:"container"`
	Class     string `json:"class"`
	ID        string `json:"id"` // of the device
	Path      string `json:"path"`
}

// patience is how long a claimed device may be away: a reset looks like an unplugging, and after a start of the machine
// hardware takes its time to be found.
const patience = 15 * time.Second

// Reasons why a claim is not met.
var (
	// ErrNotYet means that the machine's devices are not known yet, or that others have them: try again.
	ErrNotYet = errors.New("devices are not available yet")
	// ErrTooFew means that the machine does not have as many.
	ErrTooFew = errors.New("not enough devices")
)

// tooFew is worded as the kubelet's device manager words it.
type tooFew struct {
	class       string
	wanted, has int64
}

func (e *tooFew) Error() string {
	return fmt.Sprintf("Allocate failed due to requested number of devices unavailable for %s%s. Requested: %d, Available: %d, which is unexpected",
		ResourcePrefix, e.class, e.wanted, e.has)
}

// Is makes it an ErrTooFew.
func (e *tooFew) Is(target error) bool { return target == ErrTooFew }

// Ledger remembers who has which device. Its methods may be called concurrently.
type Ledger struct {
	file string

	mu      sync.Mutex
	known   bool // devices were set
	devices []Device
	claims  []Claim
	missing map[string]time.Time // claimed devices by ID, since when they are away
}

// Open reads the claims in file, which need not exist.
func Open(file string) (*Ledger, error) {
	l := &Ledger{file: file, missing: map[string]time.Time{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &l.claims)
	}
	if err != nil {
		return nil, fmt.Errorf("read device claims: %w", err)
	}
	return l, nil
}

// Set says what there is now, sorted by path.
func (l *Ledger) Set(devices []Device, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.devices, l.known = devices, true
	was := l.missing
	l.missing = map[string]time.Time{}
	for _, c := range l.claims {
		if l.there(c.ID) {
			continue
		}
		since, ok := was[c.ID]
		if !ok {
			since = now
		}
		l.missing[c.ID] = since
	}
}

func (l *Ledger) there(id string) bool {
	return slices.ContainsFunc(l.devices, func(d Device) bool { return d.ID == id })
}

// Lost are the claims on devices that have been away for long, and whether there are others that may come to be so.
func (l *Ledger) Lost(now time.Time) (lost []Claim, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.claims {
		since, missing := l.missing[c.ID]
		if missing && now.Sub(since) >= patience {
			lost = append(lost, c)
		}
		more = more || missing
	}
	return lost, more
}

// Counts are how many devices of each class there are, claimed ones included.
func (l *Ledger) Counts() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int64{}
	for _, d := range l.devices {
		out[d.Class]++
	}
	return out
}

// Claim gives the container as many devices of each class as it wants, those that it has already first. They are its own
// until Release of the pod, also across a reboot. On an error nothing has changed.
func (l *Ledger) Claim(uid, container string, wants map[string]int64) ([]Claim, error) {
	if len(wants) == 0 {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return nil, fmt.Errorf("%w: the hardware is being looked at", ErrNotYet)
	}
	own, fresh, err := choose(l.devices, l.claims, uid, container, wants)
	if err != nil || len(fresh) == 0 {
		return own, err
	}
	all := append(slices.Clone(l.claims), fresh...)
	if err := l.write(all); err != nil {
		return nil, err
	}
	l.claims = all
	return append(own, fresh...), nil
}

// choose is the decision: which claims the container has, and which it is to get beside them.
func choose(devices []Device, claims []Claim, uid, container string, wants map[string]int64) (own, fresh []Claim, err error) {
	taken := map[string]bool{}
	for _, c := range claims {
		taken[c.ID] = true
		if c.UID == uid && c.Container == container {
			own = append(own, c)
		}
	}
	for _, class := range sorted(wants) {
		have, all := int64(0), int64(0)
		for _, c := range own {
			if c.Class == class {
				have++
			}
		}
		for _, d := range devices {
			if d.Class != class {
				continue
			}
			all++
			if have < wants[class] && !taken[d.ID] {
				fresh = append(fresh, Claim{UID: uid, Container: container, Class: class, ID: d.ID, Path: d.Path})
				taken[d.ID] = true
				have++
			}
		}
		switch {
		case all < wants[class] && have < wants[class]:
			return nil, nil, &tooFew{class: class, wanted: wants[class], has: all}
		case have < wants[class]:
			return nil, nil, fmt.Errorf("%w: %s%s: %d wanted, %d free", ErrNotYet, ResourcePrefix, class, wants[class], have)
		}
	}
	return own, fresh, nil
}

func sorted(wants map[string]int64) []string {
	var out []string
	for class := range wants {
		out = append(out, class)
	}
	slices.Sort(out)
	return out
}

// Release gives back what the pod has. Nothing of it may run any more.
func (l *Ledger) Release(uid string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(l.claims), func(c Claim) bool { return c.UID == uid })
	if len(rest) == len(l.claims) {
		return nil
	}
	if err := l.write(rest); err != nil {
		return err
	}
	l.claims = rest
	return nil
}

// Owners lists the pods that have devices, sorted.
func (l *Ledger) Owners() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, c := range l.claims {
		out = append(out, c.UID)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// write replaces the file: old claims or new ones are on the disk, never a third.
func (l *Ledger) write(claims []Claim) error {
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Or(strings.Compare(a.UID, b.UID), strings.Compare(a.Path, b.Path)) })
	data, err := json.Marshal(claims)
	if err == nil {
		err = replace(l.file, data)
	}
	if err != nil {
		return fmt.Errorf("write device claims: %w", err)
	}
	return nil
}

// replace may leave its half of the work behind; the next one begins with it.
func replace(file string, data []byte) error {
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
