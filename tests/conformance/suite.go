package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"skerry.dev/skerry/tests/conformance/catalog"
	"skerry.dev/skerry/tests/conformance/images"
)

// suite runs upstream's suite, built as .cache/conformance/e2e.test, through ginkgo's own runner.
type suite struct {
	bin        string // folder of e2e.test and ginkgo
	kubectl    string // folder of kubectl
	kubeconfig string
	logs       string // folder for what the suite prints and reports
	procs      int
	timeLimit  time.Duration      // of one batch
	args       []string           // further flags of e2e.test
	out        io.Writer          // a line per spec that has ended; nil for none
	note       func(result) error // learns of each spec that has ended, as soon as it has; the reason may be missing
}

// interruptTime is how long the suite may take to delete its namespaces when it is told to stop.
const interruptTime = 2 * time.Minute

// run runs the specs and returns how each that ended went. name names the files that the run leaves in the logs folder.
// A failed spec is not an error; that the suite did not get to run them is. When ctx ends the suite cleans up; what it
// has learned until then was noted.
func (s *suite) run(ctx context.Context, name string, specs []catalog.Spec) ([]result, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	repoList := filepath.Join(s.logs, "repositories.yaml")
	if err := os.WriteFile(repoList, []byte(images.RepoList()), 0o644); err != nil {
		return nil, err
	}
	report := filepath.Join(s.logs, name+".json")
	if err := os.Remove(report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.logs, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := s.command(ctx, name, specs)
	cmd.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+repoList, "PATH="+s.kubectl+":"+os.Getenv("PATH"))
	progress := &progress{out: s.out, note: s.note, specs: specs}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(log, progress), log
	ended := cmd.Run() // 1 when specs failed: the report tells
	if err := errors.Join(ctx.Err(), progress.err); err != nil {
		return nil, err
	}
	results, err := readReport(report)
	if (err != nil || len(results) == 0) && progress.passed+progress.failed > 0 {
		return nil, nil // cut off by the time limit; what ended before was noted
	}
	if err != nil || len(results) == 0 {
		return nil, fmt.Errorf("the suite ran no spec: %w; see %s", errors.Join(ended, err), log.Name())
	}
	return results, nil
}

func (s *suite) command(ctx context.Context, name string, specs []catalog.Spec) *exec.Cmd {
	args := []string{
		"--procs=" + strconv.Itoa(s.procs), "--no-color", "-v", "--keep-going", "--timeout=" + s.timeLimit.String(),
		"--poll-progress-after=0", "--output-dir=" + s.logs, "--json-report=" + name + ".json", "--focus=" + focus(specs),
		filepath.Join(s.bin, "e2e.test"), "--",
		"--provider=skeleton", "--kubeconfig=" + s.kubeconfig, "--kubectl-path=" + filepath.Join(s.kubectl, "kubectl"),
		"--disable-log-dump=true",
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "ginkgo"), append(args, s.args...)...)
	// Ctrl-C is for us. We pass it on as a terminal does, to ginkgo and all that it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = interruptTime
	return cmd
}

// focus is the regular expression that finds the specs and no others.
func focus(specs []catalog.Spec) string {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = regexp.QuoteMeta(s.Name)
	}
	return "(" + strings.Join(names, "|") + ")$"
}

// ginkgoSpec is the part of ginkgo's report on a spec that we read.
type ginkgoSpec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	StartTime               time.Time
	RunTime                 time.Duration
	Failure                 struct {
		Message  string
		Location struct {
			FileName   string
			LineNumber int
		}
	}
}

// readReport reads ginkgo's report, without the specs that were not selected.
func readReport(file string) ([]result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var reports []struct{ SpecReports []ginkgoSpec }
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var results []result
	for _, r := range reports {
		for _, g := range r.SpecReports {
			if r, ran := g.result(); ran {
				results = append(results, r)
			}
		}
	}
	return results, nil
}

// result translates. A spec that was cut short has not run, and one that skips itself says why.
func (g *ginkgoSpec) result() (result, bool) {
	r := result{Name: g.name(), Seconds: g.RunTime.Round(100 * time.Millisecond).Seconds(), When: g.StartTime}
	switch g.State {
	case "passed":
		r.State = passed
	case "skipped":
		r.State, r.Reason = skipped, g.Failure.Message
		return r, g.LeafNodeType == "It" && r.Reason != ""
	case "failed", "panicked", "timedout":
		l := g.Failure.Location
		r.State, r.Reason = failed, fmt.Sprintf("%s (%s:%d)", g.Failure.Message, filepath.Base(l.FileName), l.LineNumber)
	default: // pending, interrupted, aborted
		return r, false
	}
	return r, g.LeafNodeType == "It" || r.State == failed
}

func (g *ginkgoSpec) name() string {
	var texts []string
	for _, t := range append(g.ContainerHierarchyTexts, g.LeafNodeText) {
		if t != "" {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		return g.LeafNodeType // of the suite itself
	}
	return strings.Join(texts, " ")
}

// progress reads what ginkgo prints while it runs: which specs have ended, and how. Ginkgo's report comes only at the
// end, and not at all after a crash.
type progress struct {
	out            io.Writer          // nil for nowhere
	note           func(result) error // nil for nobody
	specs          []catalog.Spec
	passed, failed int
	state          string // of the spec that the line to come names; empty when it names none
	rest           string // a line that has not ended
	err            error  // of note
}

func (p *progress) Write(data []byte) (int, error) {
	p.rest += string(data)
	for {
		line, rest, whole := strings.Cut(p.rest, "\n")
		if !whole {
			return len(data), nil
		}
		p.rest = rest
		p.line(line)
	}
}

// endLine is what ginkgo prints of a spec that has ended, and the line after it has the name.
var endLine = regexp.MustCompile(`^S*• (\[[A-Z]+\] )?\[[\d.]+ seconds\]`)

func (p *progress) line(line string) {
	if p.state != "" {
		p.ended(line)
		p.state = ""
		return
	}
	switch m := endLine.FindStringSubmatch(line); {
	case m == nil:
	case m[1] == "":
		p.state = passed
	case m[1] == "[FAILED] ", m[1] == "[TIMEDOUT] ", m[1] == "[PANICKED] ":
		p.state = failed
	}
}

// where is what ginkgo puts into the name of a spec that failed.
var where = regexp.MustCompile(`\[(It|BeforeEach|AfterEach|DeferCleanup \(Each\))\] `)

func (p *progress) ended(line string) {
	name := where.ReplaceAllString(line, "")
	i := slices.IndexFunc(p.specs, func(s catalog.Spec) bool { return strings.HasPrefix(name, s.Name) })
	if i < 0 {
		return
	}
	name = p.specs[i].Name
	text := ""
	if p.state == failed {
		p.failed++
		text = " FAILED " + name
	} else {
		p.passed++
	}
	if p.out != nil {
		fmt.Fprintf(p.out, "  %d of %d passed, %d failed%s\n", p.passed, len(p.specs), p.failed, text)
	}
	if p.note != nil {
		p.err = errors.Join(p.err, p.note(result{Name: name, State: p.state, When: time.Now().Round(time.Second)}))
	}
}
