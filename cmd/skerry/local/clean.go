package local

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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Clean removes every link and control group that a cluster of this data folder has on the host; its namespaces and their
// mounts went with its processes. It is safe to repeat, and does nothing when there is nothing.
func Clean(dataDir string) error {
	mark := Mark(dataDir)
	return errors.Join(cleanLinks(mark), cleanCgroups(mark))
}

func cleanLinks(mark string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if name != "sk"+mark && !strings.HasPrefix(name, "sk"+mark+"-") {
			continue
		}
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove link %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// drain is how long the dying processes of a control group may take to leave it.
const drain = 5 * time.Second

func cleanCgroups(mark string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		top := filepath.Join(root, "skerry", mark)
		if err := removeGroups(top); err != nil {
			errs = append(errs, err)
			continue
		}
		// The common parent goes with the last cluster; while there are others it is not empty.
		if err := os.Remove(filepath.Dir(top)); err != nil && !errors.Is(err, fs.ErrNotExist) && !busy(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeGroups kills what is left in a tree of control groups and removes it from the leaves up.
func removeGroups(top string) error {
	deadline := time.Now().Add(drain)
	for {
		groups, err := groupTree(top)
		if err != nil || len(groups) == 0 {
			return err
		}
		var left error
		for _, g := range slices.Backward(groups) {
			if err := killGroup(g); err != nil {
				return err
			}
			if err := os.Remove(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
				left = err
			}
		}
		if left == nil || !busy(left) {
			return left
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove control group: %w", left)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the kernel tells nobody when a v1 group is empty
	}
}

func groupTree(top string) ([]string, error) {
	var groups []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	return groups, err
}

func killGroup(group string) error {
	data, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d in %s: %w", pid, group, err)
			}
		}
	}
	return nil
}

func busy(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) }

// cgroupRoots are the mounted hierarchies: one per v1 controller, and the v2 tree.
func cgroupRoots() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var roots []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			roots = append(roots, f[1])
		}
	}
	return roots, nil
}

func containsWord(text, word string) bool { return slices.Contains(strings.Fields(text), word) }
