package server_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/keepertest"
)

// images are programs that cannot take over, and what the keeper says of them.
var images = map[string]struct{ text, why string }{
	"missing":          {"", "no such file"},
	"not executable":   {"what is this", "exec format error"},
	"fails":            {"#!/bin/sh\nexit 3\n", "exit status 3"},
	"talks nonsense":   {"#!/bin/sh\necho hello\n", "it says"},
	"of later records": {"#!/bin/sh\necho '{\"release\":\"v9\",\"protocol\":9,\"handover\":9}'\n", "handover format 9, this one is of 1"},
	// It says all the right things, and is gone when it is to start.
	"gone": {"#!/bin/sh\nrm \"$0\"\necho '{\"release\":\"v9\",\"protocol\":2,\"handover\":1}'\n", "replace keeper by"},
}

// TestReplaceRefused: a keeper whose new image cannot take over stays, with all it has; a good one takes over later.
func TestReplaceRefused(t *testing.T) {
	good, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir makes names too long for a socket
	check(t, err)
	defer func() { check(t, os.RemoveAll(dir)) }()
	image := filepath.Join(dir, "skerry-keeper")
	install(t, good, image)
	p := startImage(t, keepertest.Dirs{
		State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Socket: filepath.Join(dir, "keeper.sock"),
		CgroupParent: "/skerry-test/" + filepath.Base(dir),
	}, image)
	defer p.Kill(t)
	client, err := keeper.Dial(t.Context(), filepath.Join(dir, "keeper.sock"))
	check(t, err)
	for name, bad := range images {
		check(t, os.Remove(image))
		if bad.text != "" {
			check(t, os.WriteFile(image, []byte(bad.text), 0o755))
		}
		check(t, p.cmd.Process.Signal(unix.SIGHUP))
		p.says(t, bad.why)
		if _, err := client.List(t.Context()); err != nil {
			t.Errorf("%s: the keeper does not answer any more: %v", name, err)
		}
		if name == "gone" {
			p.awaitReady(t) // it says so again
		}
		check(t, os.WriteFile(image, nil, 0o755)) // removed at the next round
	}
	check(t, os.Remove(image))
	install(t, good, image)
	p.Replace(t)
	if _, err := client.List(t.Context()); err != nil {
		t.Errorf("after it was replaced: %v", err)
	}
	check(t, client.CleanAll(context.WithoutCancel(t.Context())))
	check(t, client.Close())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func install(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	check(t, err)
	check(t, os.WriteFile(to+".new", data, 0o755))
	check(t, os.Rename(to+".new", to))
}

// says waits for a part of the keeper's log.
func (p *process) says(t *testing.T, part string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !strings.Contains(p.log.String(), part); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the keeper did not say %q:\n%s", part, p.log)
		}
	}
}
