package keepertest

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"skerry.dev/skerry/edgeagent/keeper"
)

func outOfMemory(w *world) {
	spec := w.spec("c", "eat", "200")
	spec.Resources.MemoryBytes = 32 << 20
	if got := w.finish(spec); got.Code != 137 || !got.OOMKilled || got.Cause != keeper.CauseOOM {
		w.t.Errorf("got %+v", got)
	}
	small := w.spec("small", "eat", "1")
	small.Resources.MemoryBytes = 32 << 20
	if got := w.finish(small); got.Code != 0 || got.OOMKilled {
		w.t.Errorf("within its limit: got %+v", got)
	}
}

func limits(w *world) {
	spec := w.spec("c", "spawn", "60", "stay")
	spec.Resources = keeper.Resources{
		CPUShares: 512, CPUQuotaMicros: 50_000, CPUPeriodMicros: 100_000, MemoryBytes: 64 << 20, PidsLimit: 25,
	}
	w.run(spec)
	log := w.output("c", "started")
	if strings.Contains(log, "started 60") {
		w.t.Errorf("60 processes with a limit of 25: %s", log)
	}
	for _, c := range []struct{ controller, v1, v2, want string }{
		{"cpu", "cpu.cfs_quota_us", "cpu.max", "50000"},
		{"cpu", "cpu.cfs_period_us", "cpu.max", "100000"},
		{"memory", "memory.limit_in_bytes", "memory.max", fmt.Sprint(64 << 20)},
		{"pids", "pids.max", "pids.max", "25"},
	} {
		if got := w.read("c", c.controller, c.v1, c.v2); !strings.Contains(got, c.want) {
			w.t.Errorf("%s: got %q, want %s", c.v1, got, c.want)
		}
	}
}

func stats(w *world) {
	w.run(w.spec("c", "eat", "20", "stay"))
	w.output("c", "ate")
	for range 2 { // the second reads what the first opened
		all, err := w.client.Stats(w.t.Context())
		must(w.t, err)
		if len(all) != 1 || all[0].ID != "c" || all[0].CPUNanos == 0 || all[0].MemoryBytes < 20<<20 || all[0].MemoryBytes > 200<<20 || all[0].RSSBytes < 20<<20 || all[0].RSSBytes > all[0].MemoryBytes || all[0].Pids == 0 {
			w.t.Errorf("got %+v", all)
		}
	}
	w.finish(w.spec("done", "exit", "0"))
	all, err := w.client.Stats(w.t.Context(), "done")
	if err != nil || len(all) != 0 {
		w.t.Errorf("exited: got %+v, %v", all, err)
	}
}

var logLine = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*$`)

func logs(w *world) {
	w.finish(w.spec("c", "print", "to stdout", "to stderr"))
	log := w.output("c", "to stderr")
	w.expect("streams", log, " stdout F to stdout\n", " stderr F to stderr\n")
	if got := len(logLine.FindAllString(log, -1)); got != 2 || strings.Count(log, "\n") != 2 {
		w.t.Errorf("format: %q", log)
	}
	w.finish(w.spec("long", "lines", "1", "40000"))
	log = w.output("long", " stdout F ")
	if strings.Count(log, " stdout P ") != 2 || strings.Count(log, " stdout F ") != 1 || strings.Count(log, "x") != 40000 {
		w.t.Errorf("a long line has %d parts and %d ends", strings.Count(log, " P "), strings.Count(log, " F "))
	}
	quiet := w.spec("quiet", "lines", "1000", "1000")
	quiet.LogPath = ""
	if got := w.finish(quiet); got.Code != 0 {
		w.t.Errorf("without a log: got %+v", got)
	}
}

func logRotation(w *world) {
	spec := w.spec("c", "lines", "1000", "100")
	spec.LogMaxBytes, spec.LogMaxFiles = 16<<10, 3
	w.finish(spec)
	var all strings.Builder
	for _, name := range []string{".2", ".1", ""} {
		data, err := os.ReadFile(w.logPath("c") + name)
		must(w.t, err)
		if len(data) == 0 || int64(len(data)) > spec.LogMaxBytes+16<<10 {
			w.t.Errorf("log%s has %d bytes", name, len(data))
		}
		all.WriteString(string(data))
	}
	if _, err := os.Stat(w.logPath("c") + ".3"); err == nil {
		w.t.Error("a fourth file")
	}
	numbers := regexp.MustCompile(`F (\d+) x`).FindAllStringSubmatch(all.String(), -1)
	for i, m := range numbers {
		if want := fmt.Sprint(1000 - len(numbers) + i); m[1] != want {
			w.t.Fatalf("line %d: got %s, want %s", i, m[1], want)
		}
	}
	if len(numbers) == 0 {
		w.t.Error("no lines")
	}
}

func terminalContainer(w *world) {
	spec := w.spec("c", "print", "on a terminal")
	spec.Terminal = true
	if got := w.finish(spec); got.Code != 0 {
		w.t.Errorf("got %+v", got)
	}
	w.expect("terminal", w.output("c", "terminal"), "stdout F on a terminal")
}
