package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the time that all threads of the process, also those that have ended, have run in user and kernel mode. It is
// what /proc/PID/stat says as utime and stime, in nanoseconds instead of hundredths of a second.
func CPU(pid int) (time.Duration, error) {
	const processClock = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &t); err != nil { //nolint:gosec // a PID has at most 22 bits
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// ResidentBytes is the process's resident memory.
func ResidentBytes(pid int) (int64, error) {
	kB, err := field(pid, "status", "VmRSS:")
	return kB * 1024, err
}

// WrittenBytes is what the process has caused to be written to disks.
func WrittenBytes(pid int) (int64, error) { return field(pid, "io", "write_bytes:") }

// NetworkBytes is what came in and went out on the links, but loopback, of the network namespace of the process.
func NetworkBytes(pid int) (received, sent int64, err error) {
	path := fmt.Sprintf("/proc/%d/net/dev", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		in, inErr := strconv.ParseInt(fields[0], 10, 64)
		out, outErr := strconv.ParseInt(fields[8], 10, 64)
		if inErr != nil || outErr != nil {
			return 0, 0, fmt.Errorf("%s: %q is no line of counters", path, line)
		}
		received, sent = received+in, sent+out
	}
	return received, sent, nil
}

func field(pid int, file, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
