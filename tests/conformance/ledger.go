package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// How a spec went.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped" // by itself or as an exception; the reason says why
)

// result is how a spec went.
type result struct {
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Build   string    `json:"build,omitempty"` // identity of the binaries that it ran against
	When    time.Time `json:"when,omitzero"`
}

// ledger remembers the last result of every spec, so that a run that was cut short can go on.
type ledger struct {
	file    string
	results map[string]result
}

// openLedger reads the ledger; a missing file is an empty one.
func openLedger(file string) (*ledger, error) {
	l := &ledger{file: file, results: map[string]result{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &l.results); err != nil {
		return nil, fmt.Errorf("%s (remove it to start anew): %w", file, err)
	}
	return l, nil
}

// add notes results and writes the file in one step, so that a crash leaves the old one or the new one.
func (l *ledger) add(build string, results []result) error {
	for _, r := range results {
		r.Build = build
		l.results[r.Name] = r
	}
	data, err := json.MarshalIndent(l.results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(l.file+".new", l.file)
}

// passed says whether the spec has passed with this build; an empty build means any.
func (l *ledger) passed(name, build string) bool {
	r := l.results[name]
	return r.State == passed && (build == "" || r.Build == build)
}

// identity is a digest of the programs that a cluster is made of.
func identity(bin string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"skerry", "skerry-coordinator", "skerry-agent", "skerry-keeper"} {
		f, err := os.Open(filepath.Join(bin, name))
		if err != nil {
			return "", fmt.Errorf("%w (make build)", err)
		}
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}
