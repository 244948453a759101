package place

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// peerLimit bounds upstream's benchmark, on a machine that is busy with other things.
const peerLimit = 10 * time.Minute

// peerProgram is upstream's scheduler_perf, unmodified, as `make bench` builds it: kube-scheduler and kube-apiserver in one
// process, and etcd.
const peerProgram = ".cache/bin/scheduler_perf"

// peer runs upstream's own benchmark of its scheduler at this size and returns what it says: pods bound per second, on
// average over the seconds that it took.
func (s size) peer(ctx context.Context) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, peerLimit, errors.New("scheduler_perf takes too long"))
	defer cancel()
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	said, err := s.runPeer(ctx, dir)
	figures, globErr := filepath.Glob(filepath.Join(dir, "BenchmarkPerfScheduling_*.json"))
	if globErr != nil || len(figures) != 1 {
		return 0, fmt.Errorf("scheduler_perf left no figures: %w\n%s", errors.Join(err, context.Cause(ctx), globErr), said)
	}
	data, err := os.ReadFile(figures[0]) // its error may be that it was slower than upstream's machines are
	if err != nil {
		return 0, err
	}
	return throughput(data)
}

// runPeer runs the program, in the folder of its source, where its settings are. It returns the end of what it said.
func (s size) runPeer(ctx context.Context, dir string) (said string, err error) {
	program, err := filepath.Abs(peerProgram)
	if err != nil {
		return "", err
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	list.Dir = filepath.Join("tests", "conformance", "suite")
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find Kubernetes' source: %w", err)
	}
	source := strings.TrimSpace(string(out))
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.benchtime", "1x", "-test.timeout", "0",
		"-test.bench", "BenchmarkPerfScheduling/SchedulingBasic/"+s.peerCase+"$", "-perf-scheduling-label-filter", "", "-data-items-dir", dir)
	cmd.Dir = filepath.Join(source, "test", "integration", "scheduler_perf", "misc")
	modules := strings.TrimSuffix(source, filepath.Join("k8s.io", filepath.Base(source)))
	// It was built without the paths of this machine, which it asks for as Bazel tells them.
	cmd.Env = append(os.Environ(), "TEST_SRCDIR="+modules, "TEST_WORKSPACE=.", "TMPDIR="+dir, "KUBE_CACHE_MUTATION_DETECTOR=false",
		"PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its etcd then
	cmd.WaitDelay = 20 * time.Second
	all, err := cmd.CombinedOutput()
	return string(all[max(0, len(all)-2000):]), err
}

// throughput reads the one figure that is of interest here.
func throughput(data []byte) (float64, error) {
	var figures struct {
		DataItems []struct {
			Data   map[string]float64 `json:"data"`
			Labels map[string]string  `json:"labels"`
		} `json:"dataItems"`
	}
	if err := json.Unmarshal(data, &figures); err != nil {
		return 0, fmt.Errorf("figures of scheduler_perf: %w", err)
	}
	for _, i := range figures.DataItems {
		if i.Labels["Metric"] == "SchedulingThroughput" && i.Data["Average"] > 0 {
			return i.Data["Average"], nil
		}
	}
	return 0, errors.New("scheduler_perf says nothing of throughput")
}
