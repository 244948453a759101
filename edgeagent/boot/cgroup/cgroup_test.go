package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseMounts(t *testing.T) {
	v2 := func(path string) ([]string, error) {
		if path == "/sys/fs/cgroup/unified" || path == "/sys/fs/cgroup" {
			return []string{"cpu", "io"}, nil
		}
		return nil, errors.New("not mounted")
	}
	for name, test := range map[string]struct {
		mounts string
		want   []Hierarchy
	}{
		"v2": {
			"cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n",
			[]Hierarchy{{Path: "/sys/fs/cgroup", V2: true, Controllers: []string{"cpu", "io"}}},
		},
		"hybrid, one mounted twice, other file systems": {
			"sysfs /sys sysfs rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0\n" +
				"cgroup /old\\040place cgroup rw,cpu,cpuacct 0 0\n" +
				"cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd,release_agent=/x 0 0\n" +
				"cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nshort line\n",
			[]Hierarchy{
				{Path: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
				{Path: "/sys/fs/cgroup/systemd", Controllers: []string{"name=systemd"}},
				{Path: "/sys/fs/cgroup/unified", V2: true, Controllers: []string{"cpu", "io"}},
			},
		},
		"space":   {"cgroup /a\\040b cgroup rw,pids 0 0\n", []Hierarchy{{Path: "/a b", Controllers: []string{"pids"}}}},
		"nothing": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseMounts(test.mounts, v2)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("err %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	all := []Hierarchy{{Controllers: []string{"cpu", "cpuacct"}}, {V2: true, Controllers: []string{"io"}}}
	if got := Missing(all, "cpu", "memory", "io", "pids"); !slices.Equal(got, []string{"memory", "pids"}) {
		t.Errorf("missing %v", got)
	}
}

func TestOnlyGroupsBelowTheRoot(t *testing.T) {
	for _, group := range []string{"", "/", "relative", "/a/../..", "/a/", "/a//b"} {
		if err := Remove(nil, group, 0); err == nil {
			t.Errorf("removal of %q was accepted", group)
		}
		if err := Prepare(nil, group); err == nil {
			t.Errorf("preparation of %q was accepted", group)
		}
	}
}

const patience = 20 * time.Second

func TestPrepareAndRemove(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make control groups: run the tests with sudo")
	}
	all, err := Hierarchies()
	if err != nil || len(all) == 0 {
		t.Fatalf("needs mounted control groups (mount -t cgroup2 none /sys/fs/cgroup): %v", err)
	}
	top := fmt.Sprintf("/skerry-test-%d", os.Getpid())
	group := top + "/n1"
	defer func() {
		if err := Remove(all, top, patience); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		if err := Prepare(all, group); err != nil {
			t.Fatal(err)
		}
	}
	busy(t, all, filepath.Join(group, "pod", "container"))
	if err := Remove(all, group, patience); err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if _, err := os.Stat(filepath.Join(h.Path, group)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still in %s: %v", group, h.Path, err)
		}
		if _, err := os.Stat(filepath.Join(h.Path, top)); err != nil {
			t.Errorf("the parent went, too: %v", err)
		}
	}
	if err := Remove(all, group, patience); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}

// busy puts a frozen process that ignores SIGTERM into a nested group of each hierarchy.
func busy(t *testing.T, all []Hierarchy, group string) {
	t.Helper()
	sleeper := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var exit *exec.ExitError
		if err := sleeper.Wait(); !errors.As(err, &exit) || exit.Sys() != nil && exit.ExitCode() != -1 {
			t.Errorf("the process in the group ended with %v, want a kill", err)
		}
	})
	for _, h := range all {
		path := filepath.Join(h.Path, group)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(h.Controllers, "cpuset") && !h.V2 {
			continue // takes processes only once it has processors
		}
		pid := []byte(strconv.Itoa(sleeper.Process.Pid))
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), pid, 0o600); err != nil {
			t.Fatal(err)
		}
		for file, value := range map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"} {
			if err := writeExisting(filepath.Join(path, file), value); err != nil && !errors.Is(err, unix.EINVAL) {
				t.Fatal(err)
			}
		}
	}
}
