package autoscaler

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden scripts")

// TestScripts runs each testdata/*.txt: a Deployment of one replica, whose pods ask for 100m each, under an autoscaler of 1 to
// 100 replicas with a target of half of that. Lines are
//
//	behavior JSON         begins anew, with that behavior
//	load N for D          the pods together use N thousandths of a core for that long
//
// Under a line of load, "> TIME REPLICAS LIMITED" follows for each change of them, the time being since the line.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(script))
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(script), string(got)); diff != "" {
				t.Errorf("plans differ; run with -update and read the diff (- want, + got):\n%s", diff)
			}
		})
	}
}

func runScript(t *testing.T, script string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w *world
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line)
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "behavior":
			w = newWorld(t)
			w.hpa.Spec.MaxReplicas = 100
			w.hpa.Spec.Behavior = behavior(t, rest)
		case "load":
			w.load(rest, &out)
		}
	}
	return out.Bytes()
}

// behavior reads one, with upstream's defaults, which the API server fills in before the controller sees it.
func behavior(t *testing.T, text string) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	t.Helper()
	if text == "none" {
		return nil
	}
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	if err := yaml.UnmarshalStrict([]byte(text), b); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return b
}

// load has the pods share a load, and writes what becomes of them.
func (w *world) load(text string, out *bytes.Buffer) {
	w.t.Helper()
	amount, lasting, _ := strings.Cut(text, " for ")
	total, err := strconv.ParseInt(amount, 10, 64)
	duration, durationErr := time.ParseDuration(lasting)
	if err != nil || durationErr != nil {
		w.t.Fatalf("load %s: %v, %v", text, err, durationErr)
	}
	began := w.now
	for w.now.Sub(began) < duration {
		at, before := w.now.Sub(began), *w.web.Spec.Replicas
		w.use = total / int64(before)
		if replicas := w.after(period); replicas != before {
			fmt.Fprintf(out, "> %s %d %s\n", at, replicas, w.condition(autoscalingv2.ScalingLimited))
		}
	}
	fmt.Fprintf(out, "> %s %d %s\n", duration, *w.web.Spec.Replicas, w.condition(autoscalingv2.AbleToScale))
}
