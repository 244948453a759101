package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"skerry.dev/skerry/messaging"
)

var errCrash = errors.New("the power is out")

// memory is a disk in memory that keeps only what was synced, and dies at an operation of the test's choice.
type memory struct {
	now     map[string][]byte // what a running system sees
	synced  map[string][]byte // content that would survive, by identity of the file's name in now
	durable map[string][]byte // what is there after a power cut
	ops     int
	dieAt   int // 0 for never
	torn    bool
}

func newMemory() *memory {
	return &memory{now: map[string][]byte{}, synced: map[string][]byte{}, durable: map[string][]byte{}}
}

func (m *memory) op() error {
	m.ops++
	if m.dieAt > 0 && m.ops >= m.dieAt {
		return errCrash
	}
	return nil
}

type memoryFile struct {
	m    *memory
	name string
}

func (m *memory) create(name string) (file, error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	m.now[name] = nil
	delete(m.synced, name)
	return memoryFile{m, name}, nil
}

func (f memoryFile) Write(b []byte) (int, error) {
	if err := f.m.op(); err != nil {
		if f.m.torn {
			f.m.now[f.name] = bytes.Clone(b[:len(b)/2])
		}
		return 0, err
	}
	f.m.now[f.name] = bytes.Clone(b)
	return len(b), nil
}

func (f memoryFile) Sync() error {
	if err := f.m.op(); err != nil {
		return err
	}
	f.m.synced[f.name] = f.m.now[f.name]
	return nil
}

func (f memoryFile) Close() error { return nil }

func (m *memory) read(name string) ([]byte, error) {
	b, ok := m.now[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (m *memory) rename(from, to string) error {
	if err := m.op(); err != nil {
		return err
	}
	m.now[to], m.synced[to] = m.now[from], m.synced[from]
	delete(m.now, from)
	delete(m.synced, from)
	return nil
}

func (m *memory) remove(name string) error {
	if err := m.op(); err != nil {
		return err
	}
	delete(m.now, name)
	delete(m.synced, name)
	return nil
}

func (m *memory) list() ([]string, error) { return slices.Collect(maps.Keys(m.now)), nil }

func (m *memory) sync() error {
	if err := m.op(); err != nil {
		return err
	}
	m.durable = maps.Clone(m.synced)
	return nil
}

// reboot returns the disk as it is after a power cut: with nothing that was not synced, or with all of it.
func (m *memory) reboot(lost bool) *memory {
	n := newMemory()
	from := m.now
	if lost {
		from = m.durable
	}
	n.now, n.synced, n.durable = maps.Clone(from), maps.Clone(from), maps.Clone(from)
	return n
}

func assigned(part string, revision uint64, data string) messaging.Assigned {
	return messaging.Assigned{Node: "n1", Part: part, Revision: revision, Data: []byte(data), Signature: "s"}
}

func desired(t *testing.T, revision uint64, refs ...messaging.PodRef) (messaging.Assigned, map[string]messaging.Assigned) {
	t.Helper()
	raw, err := json.Marshal(messaging.Manifest{Cluster: "c", Epoch: 1, Generation: revision, Pods: refs})
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]messaging.Assigned{}
	for _, r := range refs {
		pods[r.UID] = assigned(messaging.PodPart(r.UID), r.Revision, fmt.Sprintf("pod %s at %d", r.UID, r.Revision))
	}
	return assigned(messaging.ManifestPart, revision, string(raw)), pods
}

// TestPowerCut cuts the power at every file operation of every kind of save, with the unsynced data lost and kept, and
// requires that a reader then finds the state before or after.
func TestPowerCut(t *testing.T) {
	m1, p1 := desired(t, 10, messaging.PodRef{UID: "a", Revision: 5}, messaging.PodRef{UID: "b", Revision: 6})
	m2, p2 := desired(t, 20, messaging.PodRef{UID: "a", Revision: 5}, messaging.PodRef{UID: "b", Revision: 16},
		messaging.PodRef{UID: "c", Revision: 17})
	saves := map[string]func(*Store) error{
		"desired":  func(s *Store) error { return s.SaveDesired(m2, p2) },
		"identity": func(s *Store) error { return s.SaveIdentity(Identity{Node: "n1", Cluster: "c", Enrolled: true}) },
		"services": func(s *Store) error { return s.SaveServices(assigned("services", 9, "table 2")) },
		"memory":   func(s *Store) error { return s.SaveMemory("a", Memory{Status: []byte("new")}) },
		"forget":   func(s *Store) error { return s.Forget("a") },
	}
	setUp := func() *memory {
		m := newMemory()
		s, _, err := open(m)
		must(t, err)
		must(t, s.SaveIdentity(Identity{Node: "n1"}))
		must(t, s.SaveServices(assigned("services", 8, "table 1")))
		must(t, s.SaveMemory("a", Memory{Status: []byte("old"), Crashes: map[string]int{"x": 2}}))
		must(t, s.SaveDesired(m1, p1))
		return m
	}
	for name, save := range saves {
		t.Run(name, func(t *testing.T) { cutEverywhere(t, setUp, save) })
	}
}

func cutEverywhere(t *testing.T, setUp func() *memory, save func(*Store) error) {
	whole := setUp()
	before := load(t, whole.reboot(true))
	start := whole.ops
	must(t, save(reopen(t, whole)))
	after, steps := load(t, whole), whole.ops-start
	if cmp.Equal(before, after) {
		t.Fatal("the save changes nothing: the test cannot fail")
	}
	if lost := load(t, whole.reboot(true)); !cmp.Equal(after, lost) {
		t.Errorf("not durable when the save returned:\n%s", cmp.Diff(after, lost))
	}
	for at := 1; at <= steps; at++ {
		for _, lost := range []bool{true, false} {
			m := setUp()
			m.dieAt, m.torn = m.ops+at, true
			err := save(reopen(t, m))
			got := load(t, m.reboot(lost))
			if !cmp.Equal(got, before) && !cmp.Equal(got, after) {
				t.Errorf("cut at operation %d (unsynced lost: %t): a third state\n%s", at, lost, cmp.Diff(after, got))
			}
			if err == nil && !cmp.Equal(got, after) && lost {
				t.Errorf("cut at operation %d: reported success, but found the old state", at)
			}
		}
	}
}

func reopen(t *testing.T, m *memory) *Store {
	t.Helper()
	s, _, err := open(m)
	must(t, err)
	return s
}

func load(t *testing.T, m *memory) State {
	t.Helper()
	_, state, err := open(m)
	must(t, err)
	if len(state.Damage) > 0 {
		t.Errorf("damage: %v", state.Damage)
	}
	return state
}

// TestSaveAgainAfterFailure: a store that could not write (a full disk) goes on working when it can again.
func TestSaveAgainAfterFailure(t *testing.T) {
	m := newMemory()
	s := reopen(t, m)
	manifest, pods := desired(t, 3, messaging.PodRef{UID: "a", Revision: 2})
	m.dieAt = m.ops + 3
	if err := s.SaveDesired(manifest, pods); !errors.Is(err, errCrash) {
		t.Fatalf("error %v, want %v", err, errCrash)
	}
	m.dieAt = 0
	must(t, s.SaveDesired(manifest, pods))
	if got := load(t, m.reboot(true)); !cmp.Equal(got.Pods, pods) {
		t.Error(cmp.Diff(pods, got.Pods))
	}
}

func TestRealFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoint")
	s, state, err := Open(dir)
	must(t, err)
	if diff := cmp.Diff(State{}, state, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("new folder holds:\n%s", diff)
	}
	id := Identity{Node: "n1", KeySeed: []byte("SU.."), CAHash: "h"}
	manifest, pods := desired(t, 7, messaging.PodRef{UID: "../../etc", Revision: 1})
	must(t, s.SaveIdentity(id))
	must(t, s.SaveDesired(manifest, pods))
	must(t, s.SaveMemory("u/1", Memory{Status: []byte{1}}))
	_, state, err = Open(dir)
	must(t, err)
	want := State{Identity: id, Manifest: manifest, Pods: pods, Memories: map[string]Memory{"u/1": {Status: []byte{1}}}}
	if diff := cmp.Diff(want, state, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(dir, identityFile))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("identity has mode %v, want 0600", info.Mode().Perm())
	}
}

func TestOldPodsAreSwept(t *testing.T) {
	m := newMemory()
	s := reopen(t, m)
	for revision := uint64(1); revision < 20; revision++ {
		manifest, pods := desired(t, revision, messaging.PodRef{UID: "a", Revision: revision})
		must(t, s.SaveDesired(manifest, pods))
	}
	count := 0
	for name := range m.now {
		if strings.HasPrefix(name, podPrefix) {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d pod files for one pod", count)
	}
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	must(t, err)
	manifest, pods := desired(t, 7, messaging.PodRef{UID: "a", Revision: 1}, messaging.PodRef{UID: "b", Revision: 2})
	must(t, s.SaveIdentity(Identity{Node: "n1"}))
	must(t, s.SaveDesired(manifest, pods))
	flip(t, filepath.Join(dir, "pod-b-2"))
	_, state, err := Open(dir)
	must(t, err)
	if len(state.Damage) != 1 || !errors.Is(state.Damage[0], ErrDamaged) {
		t.Errorf("damage %v, want one of pod-b-2", state.Damage)
	}
	if _, ok := state.Pods["a"]; !ok || len(state.Pods) != 1 {
		t.Errorf("pods %v, want a alone", state.Pods)
	}
	repaired, _, err := Open(dir)
	must(t, err)
	must(t, repaired.SaveDesired(manifest, pods))
	_, state, err = Open(dir)
	must(t, err)
	if len(state.Damage) > 0 || len(state.Pods) != 2 {
		t.Errorf("after the same was saved again: %v, %v", state.Pods, state.Damage)
	}
	flip(t, filepath.Join(dir, identityFile))
	if _, _, err := Open(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged identity: %v", err)
	}
}

func flip(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	b[len(b)-2] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(Identity{Node: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("SKCP"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var id Identity
		if err := decode(data, &id); err == nil {
			if _, err := encode(id); err != nil {
				t.Errorf("decoded what cannot be encoded: %v", err)
			}
		}
	})
}
