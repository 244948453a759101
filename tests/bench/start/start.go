// Package start measures how long a container takes from the request to the first instruction of its program, and until
// everything of it is gone: through the keeper, by crun and by podman, in turns, on the same root file system.
package start

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/tests/bench/section"
)

// stamp prints CLOCK_MONOTONIC, the clock that now reads too. With an argument it stays.
const stamp = `#include <stdio.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	printf("%lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
	fflush(stdout);
	while (argc > 1) pause();
	return 0;
}
`

// restTime is longer than the kernel keeps cgroup changes cheap after one: a start after it pays for a grace period of the kernel's, as the
// lonely start on an idle node does, whoever makes it.
const restTime = 300 * time.Millisecond

// again is how often each contestant starts right after a rested start.
const again = 3

// Sample is one container's life.
type Sample struct {
	Start time.Duration // request to main
	Total time.Duration // request to everything removed
}

// Contestant starts one container and returns when it is gone.
type contestant struct {
	name string
	run  func(ctx context.Context, id string) (stampOut string, err error)
}

// Section is the chapter about container starts.
type Section struct {
	Keeper string // path of skerry-keeper
}

// Name is "start".
func (Section) Name() string { return "start" }

// Run measures on a thread of its own, which sees the control groups as crun wants them.
func (s Section) Run(ctx context.Context, quick bool, _ *section.Goals) (markdown string, err error) {
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rounds := 30
	if quick {
		rounds = 6
	}
	done := make(chan error, 1) // one word
	go func() {
		runtime.LockOSThread() // never unlocked: its mounts are its own
		var err error
		markdown, err = run(ctx, options{keeper: s.Keeper, rounds: rounds, dir: dir})
		done <- err
	}()
	if err := <-done; err != nil {
		return "", err
	}
	return "## Container start\n\n" + markdown, nil
}

type options struct {
	keeper string
	rounds int
	dir    string // for scratch
}

func run(ctx context.Context, o options) (markdown string, err error) {
	if err := hideUnified(); err != nil {
		return "", err
	}
	rootfs := filepath.Join(o.dir, "rootfs")
	if err := build(ctx, rootfs); err != nil {
		return "", err
	}
	k, stop, err := startKeeper(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	contestants := []contestant{
		{"skerry keeper", k.life(rootfs, "")},
		{"crun run", crun(o.dir, rootfs, true)},
		{"podman run", podman(rootfs)},
		{"skerry keeper, no filter", k.life(rootfs, keeper.SeccompUnconfined)},
		{"crun run, no filter", crun(o.dir, rootfs, false)},
	}
	rested, warm := map[string][]Sample{}, map[string][]Sample{}
	for round := range o.rounds + 1 { // the first fills caches
		for i := range contestants {
			c := contestants[(i+round)%len(contestants)] // nobody always comes after the same other
			r, w, err := c.turn(ctx, fmt.Sprintf("b%d-%d", os.Getpid(), round))
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				rested[c.name] = append(rested[c.name], r)
				warm[c.name] = append(warm[c.name], w...)
			}
		}
	}
	memory, err := k.memory(ctx, rootfs)
	if err != nil {
		return "", err
	}
	return report(contestants, rested, warm) + "\n" + memory, nil
}

// turn is one start after a rest and some more right after it.
func (c contestant) turn(ctx context.Context, id string) (rested Sample, warm []Sample, err error) {
	time.Sleep(restTime)
	if rested, err = measure(ctx, c, id); err != nil {
		return Sample{}, nil, err
	}
	for i := range again {
		s, err := measure(ctx, c, fmt.Sprintf("%s-%d", id, i))
		if err != nil {
			return Sample{}, nil, err
		}
		warm = append(warm, s)
	}
	return rested, warm, nil
}

// hideUnified lets crun work on a machine that mounts cgroup v1 and v2 side by side: it refuses such a mix. The mount is
// hidden from this process and its children only.
func hideUnified() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func build(ctx context.Context, rootfs string) error {
	for _, dir := range []string{"", "proc", "dev", "sys", "etc", "tmp", "run", "var"} {
		if err := os.MkdirAll(filepath.Join(rootfs, dir), 0o755); err != nil {
			return err
		}
	}
	source := rootfs + ".c"
	if err := os.WriteFile(source, []byte(stamp), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", filepath.Join(rootfs, "stamp"), source).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	return nil
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the clock always exists
	}
	return t.Nano()
}

func measure(ctx context.Context, c contestant, id string) (Sample, error) {
	began := now()
	out, err := c.run(ctx, id)
	ended := now()
	if err != nil {
		return Sample{}, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return Sample{}, fmt.Errorf("the container said %q", out)
	}
	return Sample{Start: time.Duration(at - began), Total: time.Duration(ended - began)}, nil
}

func report(contestants []contestant, rested, warm map[string][]Sample) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Own mnt, pid, net, ipc, uts and cgroup namespaces, read-only root, default capabilities, no-new-privs, memory, cpu and pids limits, the\ndefault seccomp profile unless it says otherwise; %d rounds in turns, in changing order. *start* is from the request to the first line of `main`, *total* until\neverything of the container is removed (and, with the keeper, its exit is on disk). *rested*: one start after %s of quiet, the usual case\non a node; *at once*: %d more right after it.\n\n", len(rested[contestants[0].name]), restTime, again)
	b.WriteString("| | runtime | start p50 | p90 | total p50 | start ÷ crun | total ÷ crun |\n|---|---|---:|---:|---:|---:|---:|\n")
	for _, kind := range []struct {
		name    string
		samples map[string][]Sample
	}{{"rested", rested}, {"at once", warm}} {
		for _, c := range contestants {
			b.WriteString(row(kind.name, c.name, kind.samples[c.name], kind.samples["crun run"]))
		}
	}
	return b.String()
}

func row(kind, name string, samples, base []Sample) string {
	start := func(s Sample) time.Duration { return s.Start }
	total := func(s Sample) time.Duration { return s.Total }
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %.2f | %.2f |\n", kind, name,
		ms(quantile(samples, .5, start)), ms(quantile(samples, .9, start)), ms(quantile(samples, .5, total)),
		ratio(quantile(samples, .5, start), quantile(base, .5, start)), ratio(quantile(samples, .5, total), quantile(base, .5, total)))
}

func quantile(samples []Sample, q float64, of func(Sample) time.Duration) time.Duration {
	values := make([]time.Duration, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1))]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
