package automation_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// natsCLI finds the real nats command: SKERRY_NATS, the one that make builds, or any on the PATH.
func natsCLI(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("SKERRY_NATS"), "../../.cache/bin/nats"} {
		if full, err := filepath.Abs(path); path != "" && err == nil {
			if _, err := os.Stat(full); err == nil {
				return full
			}
		}
	}
	path, err := exec.LookPath("nats")
	if err != nil {
		t.Skip("no nats command: make deps builds it, or name one in SKERRY_NATS")
	}
	return path
}

func TestNatsCLI(t *testing.T) {
	c := start(t)
	c.endpoints()
	c.events()
	binary, home := natsCLI(t), t.TempDir()
	nats := func(stdin string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, append([]string{"--server", c.net.Server.ClientURL(), "--password", "admin", "--user", "tester"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nats %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	nats("", "request", "--raw", "skerry.v1.api.configmaps.apply", configMap("a", "1"))
	var list corev1.ConfigMapList
	if out := nats("", "request", "--raw", "skerry.v1.api.configmaps.list", "{}"); json.Unmarshal([]byte(out), &list) != nil || len(list.Items) != 1 {
		t.Errorf("list: %s", out)
	}
	if out := nats("", "request", "skerry.v1.api.configmaps.get", `{"name":"nope"}`); !strings.Contains(out, "Nats-Service-Error-Code: 404") {
		t.Errorf("error: %s", out)
	}
	if out := nats("", "micro", "info", "skerry"); !strings.Contains(out, "skerry.v1.api.pods.list") {
		t.Errorf("micro info: %s", out)
	}
	c.wantTold("added a")
	if out := nats("", "stream", "get", "EVENTS", "--last-for", "skerry.v1.evt.default.configmaps.a.added"); !strings.Contains(out, `"type":"ADDED"`) {
		t.Errorf("event: %s", out)
	}
}
