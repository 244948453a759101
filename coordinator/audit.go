package coordinator

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"skerry.dev/skerry/coordinator/audit"
)

// validate returns every fault of the settings, joined, or nil.
func (c AuditConfig) validate() error {
	_, err := audit.ParseLevel(c.Level)
	faults := []error{err}
	if c.File != "" && !filepath.IsAbs(c.File) {
		faults = append(faults, fmt.Errorf("audit.file %q is not an absolute path", c.File))
	}
	if c.MaxMiB < 1 || c.MaxMiB > 1<<20 {
		faults = append(faults, fmt.Errorf("audit.max-size %d is not between 1 and %d MiB", c.MaxMiB, 1<<20))
	}
	if c.Keep < 0 || c.Keep > 1000 {
		faults = append(faults, fmt.Errorf("audit.keep %d is not between 0 and 1000", c.Keep))
	}
	return errors.Join(faults...)
}

func (c AuditConfig) open(stateDir string, log *slog.Logger) (*audit.Log, error) {
	level, err := audit.ParseLevel(c.Level)
	if err != nil {
		return nil, err
	}
	file := c.File
	if file == "" {
		file = filepath.Join(stateDir, "audit", "audit.log")
	}
	return audit.New(audit.Options{Level: level, File: file, MaxBytes: int64(c.MaxMiB) << 20, Keep: c.Keep, Log: log})
}
