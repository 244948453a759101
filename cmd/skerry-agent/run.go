package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent"
)

// An agent idles nearly always: a small heap is worth more than cheap collections. The soft limit makes the collector work
// harder when images are unpacked, without ever failing an allocation; idle, an agent needs about 20 MB resident.
const (
	gcPercent   = 50
	memoryLimit = 48 << 20
)

func runAgent(ctx context.Context, args []string, out io.Writer) error {
	flags := flagSet("run", "run the node's agent", out)
	c, _, err := settings(flags, args)
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if err := checkMachine(os.Geteuid(), "/sys/fs/cgroup"); err != nil {
		return err
	}
	log, err := c.Log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	tuneMemory()
	agent, err := edgeagent.New(ctx, edgeagent.Options{Config: c, Version: api.BuildVersion, Log: log})
	if err != nil {
		return err
	}
	return agent.Run(ctx)
}

// tuneMemory leaves what an operator has set alone.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// checkMachine refuses where an agent could only fail later and less clearly.
func checkMachine(euid int, cgroups string) error {
	if euid != 0 {
		return fmt.Errorf("user id %d is not root: mounts, namespaces and the network of pods need it; run with sudo or from a system service", euid)
	}
	for _, name := range []string{"cgroup.controllers", "memory", "unified"} {
		if _, err := os.Stat(filepath.Join(cgroups, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no control groups are mounted at %s: mount -t cgroup2 none %s, or boot with them", cgroups, cgroups)
}
