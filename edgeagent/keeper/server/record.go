package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// record is what the keeper remembers of a container across its own crash. It lives in the run folder and is not synced: what a power
// cut takes with it is a container that the power cut ended.
type record struct {
	Spec     keeper.Spec `json:"spec"`
	Instance string      `json:"instance"` // tells containers of the same ID apart
	// Made is set once the container exists and its creation may have been acknowledged.
	Made      bool         `json:"made,omitempty"`
	PID       int          `json:"pid,omitempty"`
	CreatedAt time.Time    `json:"createdAt,omitzero"`
	StartedAt time.Time    `json:"startedAt,omitzero"` // when Start was asked for: written before it is done
	Exit      *keeper.Exit `json:"exit,omitempty"`
	// StdinEnded is set before a standard input for one attachment is ended.
	StdinEnded bool `json:"stdinEnded,omitempty"`
}

// shelf is the folder of records: one folder per container with its record, its pipes and its deadline.
type shelf struct{ dir string }

const (
	recordFile   = "record.json"
	deadlineFile = "deadline"
	filterFile   = "seccomp" // of a Localhost profile
	stdoutFile   = "stdout"
	stderrFile   = "stderr"
	stdinFile    = "stdin"
)

func (s shelf) path(id, file string) string { return filepath.Join(s.dir, id, file) }

func newInstance() string { return rand.Text()[:16] }

// begin makes the folder and pipes of a container.
func (s shelf) begin(r *record) error {
	if err := os.Mkdir(filepath.Join(s.dir, r.Spec.ID), 0o700); err != nil {
		return err
	}
	pipes := []string{stdoutFile, stderrFile}
	if r.Spec.Stdin {
		pipes = append(pipes, stdinFile)
	}
	for _, name := range pipes {
		if err := unix.Mkfifo(s.path(r.Spec.ID, name), 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: s.path(r.Spec.ID, name), Err: err}
		}
	}
	return s.write(r)
}

func (s shelf) write(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record of %s: %w", r.Spec.ID, err)
	}
	return replaceFile(s.path(r.Spec.ID, recordFile), data)
}

// replaceFile puts data in place of path's content: old or new, never a third after a crash of this process.
func replaceFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s shelf) read(id string) (*record, error) {
	data, err := os.ReadFile(s.path(id, recordFile))
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("decode record of %s: %w", id, err)
	}
	if r.Spec.ID != id {
		return nil, fmt.Errorf("record of %s is about %q", id, r.Spec.ID)
	}
	return &r, nil
}

// change reads a record, alters it and writes it back. Only one may do so at a time: Server.amend.
func (s shelf) change(id string, alter func(*record)) error {
	r, err := s.read(id)
	if err != nil {
		return err
	}
	alter(r)
	return s.write(r)
}

func (s shelf) remove(id string) error { return os.RemoveAll(filepath.Join(s.dir, id)) }

// ids lists the containers that have a folder.
func (s shelf) ids() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if keeper.ValidateID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// writeDeadline remembers a boot-time instant; zero forgets it.
func (s shelf) writeDeadline(id string, at time.Duration) error {
	if at == 0 {
		if err := os.Remove(s.path(id, deadlineFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return replaceFile(s.path(id, deadlineFile), fmt.Append(nil, int64(at)))
}

// readDeadline returns zero when there is none. One that cannot be read has passed: the fence fails to the safe side.
func (s shelf) readDeadline(id string) time.Duration {
	data, err := os.ReadFile(s.path(id, deadlineFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	var at int64
	if _, scanErr := fmt.Sscan(string(data), &at); err != nil || scanErr != nil || at <= 0 {
		return 1
	}
	return time.Duration(at)
}
