package boot

import (
	"bytes"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	var b backoff
	var waits []time.Duration
	for range 9 {
		waits = append(waits, b.after(time.Second))
	}
	want := []time.Duration{
		100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
		1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 10 * time.Second, 10 * time.Second,
	}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
	if got := b.after(time.Minute); got != firstBackoff {
		t.Errorf("after a long healthy run the wait is %v", got)
	}
}

func TestParseArgs(t *testing.T) {
	got, err := ParseArgs([]string{
		"--state-dir", "/s", "--hostname", "n1", "--cgroup-parent", "/skerry/n1", "--keeper", "/bin/k", "--grace", "3s",
		"--", "--config", "/s/agent.yaml",
	}, "/bin/a", nil)
	want := Config{
		StateDir: "/s", Hostname: "n1", CgroupParent: "/skerry/n1", Grace: 3 * time.Second,
		Keeper: Program{Path: "/bin/k", Args: []string{
			"--state-dir", "/s/keeper", "--run-dir", "/s/run/keeper", "--socket", "/s/run/keeper.sock", "--cgroup-parent", "/skerry/n1",
		}},
		Agent: Program{Path: "/bin/a", Args: []string{"--config", "/s/agent.yaml"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("err %v (-want +got):\n%s", err, diff)
	}
}

func TestParseArgsSaysWhatIsWrong(t *testing.T) {
	var usage bytes.Buffer
	_, err := ParseArgs([]string{"--keeper", "k"}, "/bin/a", &usage)
	for _, want := range []string{`state-dir ""`, `cgroup-parent ""`, `keeper "k"`, "hostname is empty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
	if _, err := ParseArgs([]string{"--help"}, "/bin/a", &usage); !errors.Is(err, flag.ErrHelp) || !strings.Contains(usage.String(), "-keeper") {
		t.Errorf("help: %v, %s", err, usage.String())
	}
}
