package boot

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestNewConfig(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	got := NewConfig("/s", "n1", "/skerry/n1", "/bin/k", "/bin/a", []string{"--config", "/s/agent.yaml"}, log)
	want := Config{
		StateDir: "/s", Hostname: "n1", CgroupParent: "/skerry/n1", Grace: 10 * time.Second, Log: log,
		Keeper: Program{Path: "/bin/k", Args: []string{
			"--state-dir", "/s/keeper", "--run-dir", "/s/run/keeper", "--socket", "/s/run/keeper.sock", "--cgroup-parent", "/skerry/n1",
		}},
		Agent: Program{Path: "/bin/a", Args: []string{"--config", "/s/agent.yaml"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	err := Run(t.Context(), Config{Keeper: Program{Path: "k"}})
	for _, want := range []string{`state-dir ""`, `cgroup-parent ""`, `keeper "k"`, `agent ""`, "hostname is empty", "no logger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
}
