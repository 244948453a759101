package server

import (
	"bufio"
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

	"skerry.dev/skerry/edgeagent/keeper"
)

// cgroupTree is where the machine's hierarchies are mounted. On v1 there is one per controller; hybrid machines have a unified one
// without controllers as well.
type cgroupTree struct {
	v1      map[string]string // by controller
	unified string            // empty without one
	all     []string
}

// findCgroups reads the mounts of this process. The unified hierarchy rules when no memory controller is mounted on v1.
func findCgroups() (cgroupTree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroupTree{}, fmt.Errorf("find cgroups: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	tree := cgroupTree{v1: make(map[string]string)}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlay mounts have long option lists
	for lines.Scan() {
		tree.addMount(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return cgroupTree{}, fmt.Errorf("find cgroups: %w", err)
	}
	if tree.unified == "" && tree.v1["memory"] == "" {
		return cgroupTree{}, errors.New("find cgroups: neither a unified hierarchy nor a memory controller is mounted")
	}
	return tree, nil
}

// addMount takes one line of mountinfo: proc(5) has the fields.
func (t *cgroupTree) addMount(line string) {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(head) < 5 || len(tail) < 3 || !strings.HasPrefix(head[4], "/sys/fs/cgroup") {
		return
	}
	switch tail[0] {
	case "cgroup2":
		t.unified = head[4]
	case "cgroup":
		for o := range strings.SplitSeq(tail[2], ",") {
			t.v1[o] = head[4]
		}
	default:
		return
	}
	if !slices.Contains(t.all, head[4]) {
		t.all = append(t.all, head[4])
	}
}

func (t cgroupTree) isV2() bool { return t.v1["memory"] == "" }

func (t cgroupTree) machine() machine {
	m := machine{cgroup2: t.isV2(), memorySwap: true}
	if !m.cgroup2 {
		_, err := os.Stat(filepath.Join(t.v1["memory"], "memory.memsw.limit_in_bytes"))
		m.memorySwap = err == nil
	}
	return m
}

// removeEmpty removes group and the groups above it, up to but not including parent, as far as they are empty. Groups that are in use or
// gone are left as they are.
func (t cgroupTree) removeEmpty(group, parent string) {
	for ; strings.HasPrefix(group, parent+"/"); group = filepath.Dir(group) {
		for _, root := range t.all {
			_ = unix.Rmdir(filepath.Join(root, group)) // busy means that others still use it
		}
	}
}

// kill sends SIGKILL to every process in group and below.
func (t cgroupTree) kill(group string) {
	for _, root := range t.all {
		dir := filepath.Join(root, group)
		if root == t.unified && os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
			continue
		}
		for _, pid := range pidsBelow(dir) {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone by now
		}
	}
}

// cleanLimit bounds how long clean waits for killed processes to be gone: uninterruptible ones may take until their disk answers.
const cleanLimit = 10 * time.Second

// clean kills what runs in group and below and removes all of it, group included. A group that is not there is clean.
func (t cgroupTree) clean(group string) error {
	limit := time.Now().Add(cleanLimit)
	for {
		t.kill(group)
		left := t.removeTree(group)
		if left == nil {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("clean cgroup %s: %w", group, left)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // the kernel tells nobody when a v1 group becomes empty
	}
}

func (t cgroupTree) removeTree(group string) error {
	var errs []error
	for _, root := range t.all {
		dirs := groupsBelow(filepath.Join(root, group))
		for _, dir := range slices.Backward(dirs) {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, &os.PathError{Op: "rmdir", Path: dir, Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// groupsBelow lists dir and the folders in it, each before its children.
func groupsBelow(dir string) []string {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // groups vanish while we look
	})
	return dirs
}

func pidsBelow(dir string) []int {
	var pids []int
	for _, d := range groupsBelow(dir) {
		data, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			continue // gone, or threaded
		}
		for line := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 0 { // zero: in a PID namespace we cannot see
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// signalAll sends sig to every process of group.
func (t cgroupTree) signalAll(group string, sig unix.Signal) error {
	var errs []error
	for _, pid := range pidsBelow(t.mainDir(group)) {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// mainDir is the folder of group in the hierarchy that counts memory, where every process of it is.
func (t cgroupTree) mainDir(group string) string {
	if t.isV2() {
		return filepath.Join(t.unified, group)
	}
	return filepath.Join(t.v1["memory"], group)
}

// oomKills is how many processes of group the kernel killed for its memory limit; zero when that cannot be read.
func (t cgroupTree) oomKills(group string) uint64 {
	file := "memory.oom_control"
	if t.isV2() {
		file = "memory.events"
	}
	data, err := os.ReadFile(filepath.Join(t.mainDir(group), file))
	if err != nil {
		return 0
	}
	return keyed(data, "oom_kill")
}

// keyed finds "key value" among lines; zero when there is none.
func keyed(data []byte, key string) uint64 {
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseUint(v, 10, 64) // zero when the kernel says something else
			return n
		}
	}
	return 0
}

// underParent checks that group is a clean path below parent.
func underParent(group, parent string) error {
	if filepath.Clean(group) != group || !strings.HasPrefix(group, parent+"/") {
		return fmt.Errorf("cgroup path %q is not below %q: %w", group, parent, keeper.ErrInvalid)
	}
	return nil
}
