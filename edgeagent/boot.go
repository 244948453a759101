package edgeagent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the clock that no one can set: it counts from the machine's start, sleep included.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // not on any Linux that this runs on
	}
	return time.Duration(ts.Nano())
}

// bootID identifies this start of the node, by a file in a folder that the node's init empties when it starts. The
// kernel's own id would be the same for several nodes on one machine.
func bootID(runDir string) (string, error) {
	path := filepath.Join(runDir, "boot")
	data, err := os.ReadFile(path)
	if err == nil && len(data) == 32 {
		return string(data), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	var id [16]byte
	rand.Read(id[:]) // never fails since Go 1.24
	text := hex.EncodeToString(id[:])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write boot id: %w", err)
	}
	return text, nil
}

// contact remembers, across restarts of the agent, since when the coordinator has been out of reach: a new agent must not
// begin to count anew. The file is in the folder that does not outlive the boot, and written only when the link changes.
type contact struct{ path string }

func newContact(runDir string) contact { return contact{filepath.Join(runDir, "contact")} }

// lost returns the boot time at which contact was lost, as an earlier agent noted it. Without a note there has been
// none in this boot; with a note that the link was up, it was lost when that agent died, which is now at the latest.
func (c contact) lost(now time.Duration) time.Duration {
	data, err := os.ReadFile(c.path)
	if err != nil {
		return 0
	}
	text := strings.TrimSpace(string(data))
	if text == "up" {
		return now
	}
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ns < 0 || time.Duration(ns) > now {
		return 0
	}
	return time.Duration(ns)
}

func (c contact) note(up bool, now time.Duration) error {
	text := "up"
	if !up {
		text = strconv.FormatInt(int64(now), 10)
	}
	return os.WriteFile(c.path, []byte(text), 0o600)
}
