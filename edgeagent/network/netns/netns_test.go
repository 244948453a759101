package netns_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/network/netns/netnstest"
)

func link(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// Many threads come and go; none of them, and above all not the main one, may be found elsewhere afterwards.
func TestNoThreadIsLeftInside(t *testing.T) {
	ns := netnstest.New(t)
	outside := link(t, "/proc/self/ns/net")
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			ns.Do(func() error {
				if link(t, netns.Self("net")) == outside {
					t.Error("the function ran outside")
				}
				return nil
			})
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if now, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && now != outside {
			t.Errorf("thread %s is in %s", task.Name(), now)
		}
	}
	if now := link(t, "/proc/self/ns/net"); now != outside {
		t.Errorf("the process is in %s, was in %s", now, outside)
	}
}

func TestErrorsComeBack(t *testing.T) {
	ns := netnstest.New(t)
	mine := errors.New("mine")
	if err := netns.Do(ns.Path, func() error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Do returned %v", err)
	}
	if err := netns.Unshared(unix.CLONE_NEWUTS, func() error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Unshared returned %v", err)
	}
	for _, path := range []string{"/no/such/namespace", "/proc/self/ns/uts", "/dev/null"} {
		ran := false
		err := netns.Do(path, func() error { ran = true; return nil })
		if err == nil || ran || !strings.Contains(err.Error(), path) {
			t.Errorf("Do in %s: %v, ran %v", path, err, ran)
		}
	}
}

func TestDialWantsAnAddress(t *testing.T) {
	ns := netnstest.New(t)
	if _, err := netns.Dial(net.Dialer{}, ns.Path, "tcp", "localhost:80"); err == nil || !strings.Contains(err.Error(), "literal") {
		t.Errorf("dialling a name: %v", err)
	}
	ns.ServeTCP("127.0.0.1:80", "inside")
	if text, client, err := ns.Ask("127.0.0.1:80"); text != "inside" || client != "127.0.0.1" || err != nil {
		t.Errorf("answer %q to %q, err %v", text, client, err)
	}
}
