package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// TestUnit: the unit that we ship starts this program with flags that it has, and reloads and stops it without a word to its children.
func TestUnit(t *testing.T) {
	data, err := os.ReadFile("../../configs/systemd/skerry-keeper.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			unit[key] = value
		}
	}
	for key, want := range map[string]string{"Type": "notify", "KillMode": "process", "ExecReload": "/bin/kill -HUP $MAINPID", "Delegate": "yes"} {
		if unit[key] != want {
			t.Errorf("%s=%s, want %s", key, unit[key], want)
		}
	}
	command := strings.Fields(unit["ExecStart"])
	if len(command) < 2 || !strings.HasSuffix(command[0], "/skerry-keeper") {
		t.Fatalf("it starts %q", command)
	}
	// With a flag of its own at the end, whatever comes before it must be known.
	if err := run(append(command[1:], "-help")); err != nil && err != flag.ErrHelp { //nolint:errorlint // it is this very value
		t.Error(err)
	}
}
