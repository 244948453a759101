package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/tests/bench/section"
)

// introduction says on what, when and how the figures were made, and how to read them.
func introduction(o options) (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("name this kernel: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", fmt.Errorf("read this machine's memory: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	memory := int64(info.Totalram) * int64(info.Unit) //nolint:gosec // no machine has 8 EiB
	return fmt.Sprintf(`# Benchmarks

Made by `+"`%s`"+` on %s. It rewrites this page.

| | |
|---|---|
| processor | %d cores, %s |
| memory | %s |
| kernel | Linux %s |
| Go | %s |
| load average before the run | %s |

The machine is shared: other work ran beside the measurements, and absolute figures move by tens of percent from run to
run. Every figure is a median, and peers are measured in the same run, in turns, so compare columns with each other, not
with figures from elsewhere. kB and MB are powers of 1000.
`, command(o), time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), processor(), section.Bytes(memory),
		unix.ByteSliceToString(name.Release[:]), runtime.Version(), strings.Join(strings.Fields(string(load))[:3], ", ")), nil
}

// command is what a reader types to make such a page.
func command(o options) string {
	if o.only == "" && !o.quick {
		return "make bench"
	}
	text := "go run ./tests/bench"
	if o.quick {
		text += " -quick"
	}
	if o.only != "" {
		text += " -only " + o.only
	}
	return text
}

// processor is the model that the kernel names, if it does.
func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
