package edgeagent

import (
	"os"
	"strconv"
	"strings"
)

// fewPids says whether the kernel is about to run out of process ids. What cannot be read is no pressure.
func fewPids() bool {
	limit, err := readNumber("/proc/sys/kernel/pid_max")
	if err != nil || limit == 0 {
		return false
	}
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	// The fourth field is running/existing scheduling entities: threads, which is what takes process ids.
	fields := strings.Fields(string(data))
	if len(fields) < 4 {
		return false
	}
	_, existing, _ := strings.Cut(fields[3], "/")
	n, err := strconv.ParseInt(existing, 10, 64)
	return err == nil && limit-n < limit/minFreePidsShare
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
