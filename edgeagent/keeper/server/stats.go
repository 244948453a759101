package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"skerry.dev/skerry/edgeagent/keeper"
)

// gauges are the files of one container's group, kept open: reading them again costs a tenth of opening them.
type gauges struct {
	cpu, usage, stat, pids, oom *os.File
	v2                          bool
}

// openGauges opens the files for group. Missing controllers read as zero.
func (t cgroupTree) openGauges(group string) (*gauges, error) {
	g := &gauges{v2: t.isV2()}
	files := []struct {
		file           **os.File
		controller     string
		nameV1, nameV2 string
	}{
		{&g.cpu, "cpuacct", "cpuacct.usage", "cpu.stat"},
		{&g.usage, "memory", "memory.usage_in_bytes", "memory.current"},
		{&g.stat, "memory", "memory.stat", "memory.stat"},
		{&g.pids, "pids", "pids.current", "pids.current"},
		{&g.oom, "memory", "memory.oom_control", "memory.events"},
	}
	for _, f := range files {
		root, name := t.v1[f.controller], f.nameV1
		if g.v2 {
			root, name = t.unified, f.nameV2
		}
		opened, err := os.Open(filepath.Join(root, group, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			g.close()
			return nil, fmt.Errorf("open statistics: %w", err)
		}
		if err == nil {
			*f.file = opened
		}
	}
	return g, nil
}

func (g *gauges) close() {
	for _, f := range []*os.File{g.cpu, g.usage, g.stat, g.pids, g.oom} {
		if f != nil {
			_ = f.Close() // only read from
		}
	}
}

// read takes one reading. buf is scratch space of at least statBytes.
func (g *gauges) read(id string, buf []byte) keeper.Stats {
	s := keeper.Stats{ID: id}
	if g.v2 {
		s.CPUNanos = keyed(pread(g.cpu, buf), "usage_usec") * 1000
	} else {
		s.CPUNanos = number(pread(g.cpu, buf))
	}
	inactive, rss := "total_inactive_file", "total_rss"
	if g.v2 {
		inactive, rss = "inactive_file", "anon"
	}
	usage := number(pread(g.usage, buf))
	stat := pread(g.stat, buf)
	s.MemoryBytes = usage - min(usage, keyed(stat, inactive))
	s.RSSBytes = keyed(stat, rss)
	s.Pids = number(pread(g.pids, buf))
	s.OOMKills = keyed(pread(g.oom, buf), "oom_kill")
	return s
}

// statBytes holds any of the files; memory.stat is the largest with about 3 kB.
const statBytes = 16 << 10

// pread reads a small file from its start; nothing when it is not open or its group is gone.
func pread(f *os.File, buf []byte) []byte {
	if f == nil {
		return nil
	}
	n, _ := f.ReadAt(buf, 0) // io.EOF is how it ends; ENODEV means that the group is gone
	return buf[:n]
}

func number(data []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64) // empty when the controller is missing
	return n
}
