package gauge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/mem"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/eviction"
)

// Node is where a node's figures are.
type Node struct {
	// Dir is on the file system that has containers, volumes and logs. Images has the images; it may be on another one.
	Dir, Images string
	// Group is the control group of all pods, such as /skerry.
	Group string
	// ReservedBytes of the machine's memory are not the pods'.
	ReservedBytes int64
}

// Read measures every signal that can be. What cannot is in the error; the others are right all the same.
func (n Node) Read(ctx context.Context) (map[eviction.Signal]eviction.Amount, error) {
	out := map[eviction.Signal]eviction.Amount{}
	return out, errors.Join(n.memory(ctx, out), disk(n.Dir, eviction.NodeAvailable, eviction.NodeInodesFree, out),
		disk(n.Images, eviction.ImageAvailable, eviction.ImageInodesFree, out), processes(out))
}

func (n Node) memory(ctx context.Context, out map[eviction.Signal]eviction.Amount) error {
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return fmt.Errorf("read memory: %w", err)
	}
	total := int64(m.Total)                                                                         //nolint:gosec // memory of real machines fits
	out[eviction.MemoryAvailable] = eviction.Amount{Available: int64(m.Available), Capacity: total} //nolint:gosec // likewise
	used, err := workingSet(n.Group)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no container has run yet
	}
	if err != nil {
		return err
	}
	pods := max(0, total-n.ReservedBytes)
	out[eviction.AllocatableMemory] = eviction.Amount{Available: pods - used, Capacity: pods}
	return nil
}

// workingSet is what a control group uses without what the kernel could give back at once, as the kubelet counts it.
func workingSet(group string) (int64, error) {
	dir, usage, inactive := filepath.Join("/sys/fs/cgroup/memory", group), "memory.usage_in_bytes", "total_inactive_file"
	if _, err := os.Stat("/sys/fs/cgroup/memory"); errors.Is(err, os.ErrNotExist) {
		dir, usage, inactive = filepath.Join("/sys/fs/cgroup", group), "memory.current", "inactive_file"
	}
	used, err := number(filepath.Join(dir, usage))
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(stat) {
		if name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " "); ok && name == inactive {
			n, err := strconv.ParseInt(value, 10, 64)
			return max(0, used-n), err
		}
	}
	return used, nil
}

func disk(dir string, room, inodes eviction.Signal, out map[eviction.Signal]eviction.Amount) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := int64(s.Bsize)                                                                           //nolint:unconvert // 32 bits on some machines
	out[room] = eviction.Amount{Available: int64(s.Bavail) * size, Capacity: int64(s.Blocks) * size} //nolint:gosec // disks of real machines fit
	if s.Files > 0 {                                                                                 // btrfs has no fixed number
		out[inodes] = eviction.Amount{Available: int64(s.Ffree), Capacity: int64(s.Files)} //nolint:gosec // likewise
	}
	return nil
}

// processes counts threads, which is what takes process ids.
func processes(out map[eviction.Signal]eviction.Amount) error {
	limit, err := number("/proc/sys/kernel/pid_max")
	if err != nil {
		return err
	}
	threads, err := number("/proc/sys/kernel/threads-max")
	if err != nil {
		return err
	}
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	// The fourth field is running/existing scheduling entities.
	if f := strings.Fields(string(data)); len(f) > 3 {
		_, existing, _ := strings.Cut(f[3], "/")
		n, err := strconv.ParseInt(existing, 10, 64)
		if err != nil {
			return fmt.Errorf("read /proc/loadavg: %w", err)
		}
		limit = min(limit, threads)
		out[eviction.PIDAvailable] = eviction.Amount{Available: limit - n, Capacity: limit}
	}
	return nil
}

func number(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
