package coordinator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"skerry.dev/skerry/configs"
)

func TestExampleHoldsTheDefaults(t *testing.T) {
	got := Config{}
	if err := configs.Load(&got, "../configs/coordinator.yaml", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(DefaultConfig(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("configs/coordinator.yaml is not the defaults:\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	c := DefaultConfig()
	c.StateDir, c.API.Listen, c.NATS.Listen = "relative", "example.com:6443", "127.0.0.1:many"
	c.Network.ServiceCIDR, c.Nodes.Heartbeat, c.Log.Level, c.Log.Format = "10.42.3.0/24", 0, "loud", "xml"
	err := c.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		`state-dir "relative" is not an absolute path`, `"example.com" is not an IP address`, `port "many" is no TCP port`, "overlap",
		"nodes.heartbeat", "log.level", "log.format",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("faults %q lack %q", err, want)
		}
	}
}

func TestSmallPodRangeIsRefused(t *testing.T) {
	c := DefaultConfig()
	c.Network.PodCIDR = "10.42.0.0/25"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("error %v, want one that says it is too small", err)
	}
}
