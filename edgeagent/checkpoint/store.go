package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"sync"

	"skerry.dev/skerry/messaging"
)

// Names of the files. A pod's name holds its revision, so that the pods of the next manifest can be written while the
// present one still counts.
const (
	identityFile = "identity"
	manifestFile = "manifest"
	servicesFile = "services"
	podPrefix    = "pod-"
	memoryPrefix = "memory-"
)

// Identity is who the node is and whom it trusts.
type Identity struct {
	Node       string `json:"node"`
	KeySeed    []byte `json:"keySeed"`              // nkeys user seed, made on this node
	CurveSeed  []byte `json:"curveSeed"`            // nkeys curve seed; secrets are sealed to its public key
	CAHash     string `json:"caHash"`               // pin of the cluster's certificate
	Cluster    string `json:"cluster,omitempty"`    // empty until the node was registered once
	SigningKey string `json:"signingKey,omitempty"` // public key of the coordinator's signatures
	PodCIDR    string `json:"podCIDR,omitempty"`
	Address    string `json:"address,omitempty"`  // the node's own, when it last knew
	Enrolled   bool   `json:"enrolled,omitempty"` // the join token has been used up
}

// Memory is what a node remembers of a pod across a reboot: restart counts, the crash loop's verdict, how it finished.
type Memory struct {
	Status  []byte         `json:"status"`            // v1.PodStatus in protobuf
	Crashes map[string]int `json:"crashes,omitempty"` // restarts in a row, by container name
}

// State is everything a store holds.
type State struct {
	Identity Identity                      // zero for a new node
	Manifest messaging.Assigned            // Revision 0 for none
	Pods     map[string]messaging.Assigned // by UID, what Manifest names
	Services messaging.Assigned            // Revision 0 for none
	Memories map[string]Memory             // by UID
	// Damage lists files that could not be read. They count as missing; the identity alone is never skipped over.
	Damage []error
}

// Store writes a node's checkpoint. Its methods may be called concurrently.
type Store struct {
	mu    sync.Mutex
	disk  disk
	files map[string]bool // names known to be on disk, complete
}

// Open reads the checkpoint in dir, making the folder if there is none. A damaged identity is an error: a node must not
// become another one by accident.
func Open(dir string) (*Store, State, error) {
	d, err := openFolder(dir)
	if err != nil {
		return nil, State{}, fmt.Errorf("open checkpoint: %w", err)
	}
	s, state, err := open(d)
	if err != nil {
		return nil, State{}, fmt.Errorf("open checkpoint %s: %w", dir, err)
	}
	return s, state, nil
}

func open(d disk) (*Store, State, error) {
	s := &Store{disk: d, files: map[string]bool{}}
	names, err := d.list()
	if err != nil {
		return nil, State{}, err
	}
	for _, n := range names {
		if !strings.HasSuffix(n, temporary) {
			s.files[n] = true
		}
	}
	state := State{Pods: map[string]messaging.Assigned{}, Memories: map[string]Memory{}}
	if err := s.load(identityFile, &state.Identity); err != nil {
		return nil, State{}, fmt.Errorf("%w; restore the file, or remove the folder to join the cluster anew", err)
	}
	s.loadDesired(&state)
	s.loadMemories(&state)
	return s, state, nil
}

// load reads a file if there is one.
func (s *Store) load(name string, v any) error {
	err := get(s.disk, name, v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Store) loadDesired(state *State) {
	damaged := func(err error) bool {
		if err != nil {
			state.Damage = append(state.Damage, err)
		}
		return err != nil
	}
	if damaged(s.load(servicesFile, &state.Services)) {
		state.Services = messaging.Assigned{}
	}
	var m messaging.Manifest
	if damaged(s.load(manifestFile, &state.Manifest)) || state.Manifest.Revision == 0 ||
		damaged(json.Unmarshal(state.Manifest.Data, &m)) {
		state.Manifest = messaging.Assigned{}
		return
	}
	for _, ref := range m.Pods {
		var pod messaging.Assigned
		if damaged(get(s.disk, podFile(ref), &pod)) {
			delete(s.files, podFile(ref)) // so that the next save writes it again
			continue
		}
		state.Pods[ref.UID] = pod
	}
}

func (s *Store) loadMemories(state *State) {
	for name := range s.files {
		token, ok := strings.CutPrefix(name, memoryPrefix)
		if !ok {
			continue
		}
		var m Memory
		uid, err := messaging.ParseToken(token)
		if err = errors.Join(err, get(s.disk, name, &m)); err != nil {
			state.Damage = append(state.Damage, err)
			continue
		}
		state.Memories[uid] = m
	}
}

func podFile(ref messaging.PodRef) string {
	return podPrefix + messaging.Token(ref.UID) + "-" + strconv.FormatUint(ref.Revision, 10)
}

// SaveIdentity replaces the identity.
func (s *Store) SaveIdentity(id Identity) error { return s.save(identityFile, id) }

// SaveServices replaces the service table.
func (s *Store) SaveServices(a messaging.Assigned) error { return s.save(servicesFile, a) }

// SaveMemory replaces what is remembered of a pod.
func (s *Store) SaveMemory(uid string, m Memory) error {
	return s.save(memoryPrefix+messaging.Token(uid), m)
}

// Forget drops what is remembered of a pod. Nothing remembered is no error.
func (s *Store) Forget(uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := memoryPrefix + messaging.Token(uid)
	if !s.files[name] {
		return nil
	}
	if err := s.disk.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget pod %s: %w", uid, err)
	}
	delete(s.files, name)
	return s.disk.sync()
}

func (s *Store) save(name string, v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := put(s.disk, name, v); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.disk.sync(); err != nil {
		return fmt.Errorf("checkpoint: write %s: %w", name, err)
	}
	s.files[name] = true
	return nil
}

// SaveDesired replaces the manifest and the pods it names, all or nothing. pods must hold every pod of the manifest, in
// the revision that the manifest names.
func (s *Store) SaveDesired(manifest messaging.Assigned, pods map[string]messaging.Assigned) error {
	var m messaging.Manifest
	if err := json.Unmarshal(manifest.Data, &m); err != nil {
		return fmt.Errorf("checkpoint: manifest %d: %w", manifest.Revision, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted, err := s.putPods(m, pods)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := put(s.disk, manifestFile, manifest); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.disk.sync(); err != nil {
		return fmt.Errorf("checkpoint: write %s: %w", manifestFile, err)
	}
	s.files[manifestFile] = true
	s.sweep(wanted)
	return nil
}

// putPods writes the pods that are not on disk yet, and makes them durable.
func (s *Store) putPods(m messaging.Manifest, pods map[string]messaging.Assigned) (wanted map[string]bool, err error) {
	wanted = map[string]bool{}
	fresh := map[string]bool{}
	for _, ref := range m.Pods {
		name := podFile(ref)
		wanted[name] = true
		if s.files[name] {
			continue
		}
		pod, ok := pods[ref.UID]
		if !ok {
			return nil, fmt.Errorf("manifest names pod %s, which was not given", ref.UID)
		}
		if err := put(s.disk, name, pod); err != nil {
			return nil, err
		}
		fresh[name] = true
	}
	if len(fresh) > 0 {
		if err := s.disk.sync(); err != nil {
			return nil, fmt.Errorf("write pods: %w", err)
		}
	}
	maps.Copy(s.files, fresh)
	return wanted, nil
}

// sweep removes pods that the manifest no longer names. What cannot be removed is tried again with the next manifest, and
// no reader looks at it.
func (s *Store) sweep(wanted map[string]bool) {
	for name := range s.files {
		if strings.HasPrefix(name, podPrefix) && !wanted[name] && s.disk.remove(name) == nil {
			delete(s.files, name)
		}
	}
}
