package main

import (
	"testing"
	"time"

	"skerry.dev/skerry/tests/soak/storm"
)

// TestShortStorm is a minute of what `make soak` does for ten.
func TestShortStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of kills on a real cluster; run without -short")
	}
	if err := storm.Run(t.Context(), storm.Options{Duration: 45 * time.Second, Kills: 60, Seed: 7, Nodes: 3, Out: t.Output()}); err != nil {
		t.Fatal(err)
	}
}
