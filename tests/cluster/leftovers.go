package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"skerry.dev/skerry/cmd/skerry/local"
)

// Leftovers lists what a stopped cluster of that data folder has left on the machine: processes, mounts, control groups,
// links, network namespaces, nftables. Nothing is the only good answer. Clusters on other data folders do not count.
func Leftovers(ctx context.Context, dataDir string) ([]string, error) {
	mark := local.Mark(dataDir)
	var left []string
	add := func(kind string, found []string) {
		for _, f := range found {
			left = append(left, kind+" "+f)
		}
	}
	processes, err := processesOf(dataDir)
	if err != nil {
		return nil, err
	}
	add("process", processes)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	add("mount", linesWith(string(mounts), dataDir))
	groups, err := groupsOf(mark)
	if err != nil {
		return nil, err
	}
	add("control group", groups)
	links, err := exec.CommandContext(ctx, "ip", "-o", "link").Output()
	if err != nil {
		return nil, fmt.Errorf("ip link: %w", err)
	}
	add("link", linesWith(string(links), "sk"+mark))
	namespaces, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("ip netns: %w", err)
	}
	add("network namespace", linesWith(string(namespaces), mark))
	rules, err := exec.CommandContext(ctx, "nft", "list", "tables").Output()
	if err != nil {
		return nil, fmt.Errorf("nft list tables: %w", err)
	}
	add("nftables", linesWith(string(rules), "skerry-up-"+mark))
	return left, nil
}

func linesWith(text, word string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// processesOf finds processes that name the data folder in their arguments.
func processesOf(dataDir string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(args), dataDir) {
			out = append(out, e.Name()+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return out, nil
}

func groupsOf(mark string) ([]string, error) {
	var out []string
	for _, pattern := range []string{"/sys/fs/cgroup/skerry/" + mark, "/sys/fs/cgroup/*/skerry/" + mark} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if _, err := os.Stat(f); err == nil {
				out = append(out, f)
			}
		}
	}
	return out, nil
}
