// Package netns runs functions inside other namespaces of this process.
//
// Namespaces belong to threads, and Go moves goroutines between threads, so every function here works on an operating
// system thread of its own that is thrown away afterwards: no state leaks back, whatever the function did.
// Neighbours: edgeagent/network makes pod sandboxes with it, cmd/skerry/local makes nodes. It does not name, mount or
// remember namespaces.
package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn inside the network namespace at path, for example /proc/<pid>/ns/net or a bind mount. Sockets that fn
// opens stay in that namespace after it returned. fn must not start goroutines that rely on the namespace.
func Do(path string, fn func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // opened for reading only
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// Unshared runs fn on a thread that has just left for fresh namespaces; flags are CLONE_NEWNET, CLONE_NEWIPC and
// CLONE_NEWUTS. They vanish when fn returns unless fn made something else hold them: a mount, a descriptor, a process.
func Unshared(flags int, fn func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("make namespaces: %w", err)
		}
		return fn()
	})
}

// Self is the path of one of the calling thread's own namespaces; kind is net, ipc, uts or mnt. Only meaningful inside a
// function given to Do or Unshared.
func Self(kind string) string {
	return fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), kind)
}

// Dial connects from inside the network namespace at path. address must be a literal ip:port, because names would be
// resolved on other threads, outside.
func Dial(dialer net.Dialer, path, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial from %s: want a literal ip:port: %w", path, err)
	}
	var conn net.Conn
	err := Do(path, func() (err error) {
		conn, err = dialer.Dial(network, address)
		return err
	})
	return conn, err
}

// onThread runs fn on a thread of its own and waits for it. The goroutine ends while locked, which makes the Go runtime
// destroy the thread instead of reusing it.
func onThread(fn func() error) error {
	done := make(chan error, 1) // one result; the thread must be able to end before it is read
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- fn()
			return
		}
		// This is the process's main thread: /proc/self would show its namespaces to everybody, and it cannot be
		// thrown away. While it is locked here, another goroutine must get another thread.
		done <- onThread(fn)
		runtime.UnlockOSThread()
	}()
	return <-done
}
