package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process returns the host's PID of the node's child of that program name, for instance skerry-agent; 0 when there is none.
func (n *Node) Process(program string) int {
	for _, pid := range children(n.PID()) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == program {
			return pid
		}
	}
	return 0
}

// Containers returns the host's PIDs of the first processes of the node's containers: the children of its keeper that
// are first in a process namespace of their own. Sorted.
func (n *Node) Containers(keeper string) []int {
	pids := children(n.Process(keeper))
	return slices.DeleteFunc(pids, func(pid int) bool { return !firstOfNamespace(pid) })
}

// firstOfNamespace looks at NSpid of proc_pid_status(5): the process's id in each namespace, from the reader's inwards.
// One is the host's, two are the node's, three and a last one of 1 make a container's first process.
func firstOfNamespace(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false // it has just died
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			return len(fields) > 2 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// children lists the child processes of every thread of a process, sorted; none for process 0 or a dead one.
func children(pid int) []int {
	if pid == 0 {
		return nil
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has just ended
		}
		for field := range strings.FieldsSeq(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
