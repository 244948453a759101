package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// defaultSysctls let unprivileged containers ping and listen on any port of their own namespace.
var defaultSysctls = map[string]string{
	"net.ipv4.ping_group_range":           "0 2147483647",
	"net.ipv4.ip_unprivileged_port_start": "0",
}

// namespacedSysctls are the prefixes of kernel settings that belong to a network or IPC namespace; any other would
// change the node.
var namespacedSysctls = []string{"net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."}

// sysctlFile turns a.b.c into a/b/c and refuses what is not a pod's own.
func sysctlFile(name string) (string, error) {
	if !slices.ContainsFunc(namespacedSysctls, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return "", fmt.Errorf("sysctl %q is not one of a pod's own: want one of %s", name, strings.Join(namespacedSysctls, "*, ")+"*")
	}
	file := strings.ReplaceAll(name, ".", "/")
	if !fs.ValidPath(file) {
		return "", fmt.Errorf("sysctl %q is not a name", name)
	}
	return file, nil
}

// applySysctls works on the calling thread's namespaces. A default that this kernel does not have is left out.
func applySysctls(asked map[string]string) error {
	for name, value := range defaultSysctls {
		err := writeSysctl(strings.ReplaceAll(name, ".", "/"), value)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for name, value := range asked {
		file, err := sysctlFile(name)
		if err != nil {
			return err
		}
		if err := writeSysctl(file, value); err != nil {
			return err
		}
	}
	return nil
}

// writeSysctl sets a value below /proc/sys, as seen by the calling thread. The name cannot lead out of it.
func writeSysctl(file, value string) error {
	root, err := os.OpenRoot("/proc/sys")
	if err != nil {
		return fmt.Errorf("set kernel setting %s: %w", file, err)
	}
	defer func() { _ = root.Close() }() // a directory opened for reading
	f, err := root.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set kernel setting %s: %w", file, err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set kernel setting %s to %q: %w", file, value, err)
	}
	return nil
}
