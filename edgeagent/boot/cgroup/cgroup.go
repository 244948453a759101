// Package cgroup prepares and clears the control group below which all containers of a node run, in every hierarchy that
// is mounted: v1, v2, and both at once.
//
// Neighbours: edgeagent/keeper makes the groups of containers below the one prepared here. Limits are not set here.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchy is one mounted tree of control groups.
type Hierarchy struct {
	Path        string   // where it is mounted
	V2          bool     // the unified hierarchy
	Controllers []string // that can be used in it
}

// wanted are the controllers that containers are limited or counted by.
var wanted = []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}

// Hierarchies returns what is mounted, in the order of the mounts. None is no error.
func Hierarchies() ([]Hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parseMounts(string(mounts), func(path string) ([]string, error) {
		names, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
		return strings.Fields(string(names)), err
	})
}

// parseMounts reads the format of proc_mounts(5). A hierarchy that is mounted twice is returned once.
func parseMounts(mounts string, v2Controllers func(path string) ([]string, error)) ([]Hierarchy, error) {
	var all []Hierarchy
	seen := map[string]bool{}
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		h := Hierarchy{Path: unescape(fields[1])}
		switch fields[2] {
		case "cgroup":
			h.Controllers = v1Controllers(fields[3])
		case "cgroup2":
			names, err := v2Controllers(h.Path)
			if err != nil {
				return nil, fmt.Errorf("list the controllers of %s: %w", h.Path, err)
			}
			h.V2, h.Controllers = true, names
		default:
			continue
		}
		id := fmt.Sprint(h.V2, h.Controllers)
		if !seen[id] {
			seen[id] = true
			all = append(all, h)
		}
	}
	return all, nil
}

// v1Controllers finds the controllers among mount options; a named hierarchy has none but its name.
func v1Controllers(options string) []string {
	var names []string
	for option := range strings.SplitSeq(options, ",") {
		switch {
		case slices.Contains([]string{"rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "xattr"}, option):
		case strings.Contains(option, "=") && !strings.HasPrefix(option, "name="):
		default:
			names = append(names, option)
		}
	}
	return names
}

// unescape undoes the octal escapes (\040 for a space) of proc_mounts(5).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Missing returns those of the controllers that no hierarchy offers.
func Missing(all []Hierarchy, controllers ...string) []string {
	return slices.DeleteFunc(slices.Clone(controllers), func(name string) bool {
		return slices.ContainsFunc(all, func(h Hierarchy) bool { return slices.Contains(h.Controllers, name) })
	})
}

// Prepare makes the group, an absolute path such as /skerry/n1, in every hierarchy. In v2 it also hands the controllers
// down from the root to the group's children. Safe to repeat.
func Prepare(all []Hierarchy, group string) error {
	if err := check(group); err != nil {
		return err
	}
	for _, h := range all {
		if err := h.prepare(group); err != nil {
			return fmt.Errorf("prepare control group %s: %w", group, err)
		}
	}
	return nil
}

func (h Hierarchy) prepare(group string) error {
	path := h.Path
	for name := range strings.SplitSeq(group, "/") { // the first is empty: the root itself
		path = filepath.Join(path, name)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := h.handDown(path); err != nil {
			return err
		}
	}
	return nil
}

// handDown lets the children of a v2 group use the controllers that the group has.
func (h Hierarchy) handDown(path string) error {
	if !h.V2 {
		return nil
	}
	names, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(names)) {
		if !slices.Contains(wanted, name) {
			continue
		}
		// One by one: a controller that cannot be handed down must not keep the others back.
		err := os.WriteFile(filepath.Join(path, "cgroup.subtree_control"), []byte("+"+name), 0o600)
		if err != nil && slices.Contains([]string{"cpu", "memory", "pids"}, name) {
			return fmt.Errorf("hand the %s controller down: %w", name, err)
		}
	}
	return nil
}

// Remove kills whatever runs in the group and below it and removes it from every hierarchy. It tries for as long as
// patience lasts: the kernel needs a moment to bury the dead. Removing what is not there is no error.
func Remove(all []Hierarchy, group string, patience time.Duration) error {
	if err := check(group); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(retryAfter) { //nolint:forbidigo // nobody is told when a v1 group is empty
		var problems []error
		for _, h := range all {
			problems = append(problems, removeTree(filepath.Join(h.Path, group)))
		}
		err := errors.Join(problems...)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove control group %s: %w", group, err)
		}
	}
}

const retryAfter = 10 * time.Millisecond

// check refuses a group whose removal would be a disaster.
func check(group string) error {
	if !filepath.IsAbs(group) || filepath.Clean(group) != group || group == "/" {
		return fmt.Errorf("control group %q is not an absolute path below the root", group)
	}
	return nil
}

// removeTree does one round over a group: thaw, kill, and remove from the leaves up.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var problems []error
	if err := killAll(path); err != nil {
		problems = append(problems, err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			problems = append(problems, removeTree(filepath.Join(path, entry.Name())))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

// killAll kills the processes of one group. A frozen process dies only when it is thawed.
func killAll(path string) error {
	for file, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		if err := writeExisting(filepath.Join(path, file), value); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // removed meanwhile, or a threaded v2 group whose processes are listed above it
	}
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("%s/cgroup.procs: %w", path, err)
		}
		if pid <= 0 {
			continue // a process outside our process namespace
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d of %s: %w", pid, path, err)
		}
	}
	return nil
}

// writeExisting must not create the file: control groups have only the files that the kernel gave them.
func writeExisting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if errors.Is(err, unix.ENODEV) { // removed meanwhile
		err = nil
	}
	return errors.Join(err, f.Close())
}
