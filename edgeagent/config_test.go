package edgeagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/configs"
)

// TestExampleConfig: the commented example loads, is valid, and shows the defaults.
func TestExampleConfig(t *testing.T) {
	c := DefaultConfig()
	must(t, configs.Load(&c, "../configs/agent.yaml", nil))
	want := DefaultConfig()
	want.Servers, want.JoinTokenFile = []string{"nats://coordinator.example:4222"}, "/etc/skerry/join.token"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the example differs from the defaults (-want +got):\n%s", diff)
	}
	must(t, c.Complete())
	c.Name = "n1"
	must(t, c.Validate())
}

func TestEnvironmentWins(t *testing.T) {
	t.Setenv("SKERRY_NETWORK_POD_CIDR", "10.99.0.0/16")
	t.Setenv("SKERRY_SERVERS", "nats://a:1,nats://b:2")
	c := DefaultConfig()
	must(t, configs.Load(&c, "../configs/agent.yaml", nil))
	if c.Network.PodCIDR != "10.99.0.0/16" || len(c.Servers) != 2 {
		t.Errorf("got %+v", c)
	}
}

// TestValidateNamesEveryFault: one run shows all that must be mended.
func TestValidateNamesEveryFault(t *testing.T) {
	c := Config{
		Name: "Not A Name", StateDir: "relative", KeeperSocket: "x", CgroupParent: "y", Servers: []string{"coordinator"},
		JoinToken: "cut", Address: "fe80::1", Network: NetworkConfig{PodCIDR: "all", ServiceCIDR: "10.43.0.0"},
		Pods: PodsConfig{Max: -1, LogMaxSize: "1"}, Eviction: EvictionConfig{Hard: "all"}, Images: ImagesConfig{HighPercent: 120},
		Devices: DevicesConfig{Kinds: []string{"toaster"}, Classes: []string{"gps"}}, Reserved: ReservedConfig{CPU: "much", Memory: "-1"}, Log: LogConfig{Level: "loud", Format: "xml"},
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, key := range []string{
		"name", "state-dir", "keeper-socket", "cgroup-parent", "servers", "join-token", "address", "network.pod-cidr",
		"network.service-cidr", "pods.max", "pods.log-max-size", "pods.log-max-files", "eviction", "images", "devices.kinds", "devices.classes", "reserved.cpu", "reserved.memory", "log.level", "log.format",
	} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no fault of %s in:\n%v", key, err)
		}
	}
	if err := (Config{}).Validate(); err == nil || !strings.Contains(err.Error(), "nats://coordinator.example:4222") {
		t.Errorf("no server: %v", err)
	}
}

func TestComplete(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	must(t, os.WriteFile(file, []byte("skerry1.x\n"), 0o600))
	c := Config{StateDir: dir, JoinTokenFile: file}
	must(t, c.Complete())
	if c.Name == "" || c.KeeperSocket != filepath.Join(dir, "run/keeper.sock") || c.JoinToken != "skerry1.x\n" {
		t.Errorf("completed to %+v", c)
	}
	c = Config{JoinTokenFile: filepath.Join(dir, "none")}
	must(t, c.Complete()) // a node that has joined may have lost it
	c = Config{JoinTokenFile: dir}
	if err := c.Complete(); err == nil {
		t.Error("a folder was read as a token")
	}
}
