package pod

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestScripts plays every script of testdata: a pod in YAML, a line "---", then one event a line. After each event the
// golden file shows the actions that Next asks for and the status it reports.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { checkScript(t, file) })
	}
}

func checkScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	manifest, events, found := strings.Cut(string(text), "\n---\n")
	if !found {
		t.Fatalf("%s: no line ---", file)
	}
	s := newScript(t, manifest)
	for line := range strings.Lines(events) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.play(line)
		}
	}
	golden := strings.TrimSuffix(file, ".txt") + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(s.out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v (run with -update to make it)", err)
	}
	if diff := cmp.Diff(string(want), s.out.String()); diff != "" {
		t.Errorf("%s (-want +got; run with -update when the new result is right):\n%s", golden, diff)
	}
}

type script struct {
	t    *testing.T
	pod  *corev1.Pod
	obs  Observed
	now  time.Time
	out  strings.Builder
	plan Plan
	last string
}

var scriptStart = time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC) // a board without a clock

func newScript(t *testing.T, manifest string) *script {
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(manifest), pod); err != nil {
		t.Fatalf("pod: %v", err)
	}
	pod.UID, pod.Namespace, pod.Name = "u1", "default", "p"
	s := &script{t: t, pod: pod, now: scriptStart}
	s.obs.HostIPs = []string{"10.41.0.11"}
	s.round("start")
	return s
}

func (s *script) play(line string) {
	f := strings.Fields(line)
	s.event(f)
	s.round(line)
}

func (s *script) event(f []string) {
	switch f[0] {
	case "at":
		s.now = scriptStart.Add(s.duration(f[1]))
	case "ok":
		s.apply(f[1], s.arg(f, 2), nil)
	case "fail":
		s.apply(f[1], f[2], &Failure{Reason: f[3], Started: f[3] == "StartError", Err: errors.New(strings.Join(f[4:], " "))})
	case "exit":
		s.exit(f)
	case "probe":
		s.obs.Apply(Result{
			Action: Action{Verb: RunProbe, Container: f[1], ID: s.obs.Containers[f[1]].ID, Probe: ProbeKind(f[2])},
			Passed: f[3] == "pass", Output: strings.Join(f[3:], " "),
		}, s.pod, s.now)
	case "delete":
		s.obs.StopSince = s.now
	case "evict":
		s.obs.Ruling = &Ruling{Reason: Evicted, Grace: s.duration(f[1]), Message: strings.Join(f[2:], " "), Disrupted: true}
	case "tidy":
		s.obs.Tidy = true
	case "pause":
		s.obs.Paused = strings.Join(f[1:], " ")
	case "image":
		Spec(s.pod, f[1]).Image = f[2]
		s.obs.Changed()
	case "debug":
		e := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: f[1], Image: f[2]}}
		s.pod.Spec.EphemeralContainers = append(s.pod.Spec.EphemeralContainers, e)
	case "condition":
		s.pod.Status.Conditions = append(s.pod.Status.Conditions,
			corev1.PodCondition{Type: corev1.PodConditionType(f[1]), Status: corev1.ConditionStatus(f[2])})
	default:
		s.t.Fatalf("unknown event %q", f[0])
	}
}

func (s *script) arg(f []string, i int) string {
	if i < len(f) {
		return f[i]
	}
	return ""
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) apply(verb, container string, failure *Failure) {
	c := s.obs.Containers[container]
	r := Result{Action: Action{Verb: Verb(verb), Container: container, ID: c.ID}}
	if failure != nil {
		r.Err = failure
	}
	switch r.Action.Verb {
	case CreateSandbox:
		r.IPs = []string{"10.42.1.5"}
	case PullImage:
		r.Action.Message, r.ImageID = s.obs.Images[container].Ref, "reg/"+container+"@sha256:1"
	case StartContainer:
		if c.Ran {
			r.Action.Attempt = c.Attempt + 1
		}
		r.ID, r.Started, r.ImageID = fmt.Sprintf("%s-%d", container, r.Action.Attempt), s.now, "reg/"+container+"@sha256:1"
	default:
	}
	s.obs.Apply(r, s.pod, s.now)
}

func (s *script) exit(f []string) {
	code, err := strconv.Atoi(f[2])
	if err != nil {
		s.t.Fatal(err)
	}
	s.obs.Exited(f[1], Exit{ID: s.obs.Containers[f[1]].ID, Code: int32(code), At: s.now, OOM: s.arg(f, 3) == "oom"}, s.now)
}

// round calls Next until it asks for nothing more and prints what it said.
func (s *script) round(title string) {
	fmt.Fprintf(&s.out, "> %s\n", title)
	for range 10 {
		s.plan = Next(s.pod, s.obs, s.now)
		s.obs.Previous = s.plan.Status
		for _, a := range s.plan.Actions {
			fmt.Fprintf(&s.out, "  do %s\n", a)
			s.obs.Begin(a, s.now)
		}
		if len(s.plan.Actions) == 0 {
			break
		}
	}
	if len(s.plan.Actions) > 0 {
		s.t.Errorf("%s: Next asks for actions without end: %v", title, s.plan.Actions)
	}
	s.checkRepeat()
	s.print()
}

// checkRepeat: planning twice changes nothing.
func (s *script) checkRepeat() {
	again := Next(s.pod, s.obs, s.now)
	if diff := cmp.Diff(s.plan, again); diff != "" {
		s.t.Errorf("second Next differs:\n%s", diff)
	}
}

func (s *script) print() {
	status := describe(&s.plan.Status)
	if status != s.last {
		s.out.WriteString(status)
		s.last = status
	}
	if !s.plan.Wake.IsZero() {
		fmt.Fprintf(&s.out, "  wake %s\n", s.plan.Wake.Sub(scriptStart))
	}
	if s.plan.Gone {
		s.out.WriteString("  gone\n")
	}
}

func describe(st *corev1.PodStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s", st.Phase)
	for _, w := range []string{st.Reason, st.Message, st.PodIP} {
		if w != "" {
			fmt.Fprintf(&b, " %s", w)
		}
	}
	b.WriteString("\n")
	for _, c := range st.Conditions {
		fmt.Fprintf(&b, "    %s=%s", c.Type, c.Status)
		if !c.LastTransitionTime.IsZero() {
			fmt.Fprintf(&b, " since %s", c.LastTransitionTime.Sub(scriptStart))
		}
		if c.Reason != "" {
			fmt.Fprintf(&b, " %s %s", c.Reason, c.Message)
		}
		b.WriteString("\n")
	}
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			b.WriteString(describeContainer(&list[i]))
		}
	}
	return b.String()
}

func describeContainer(c *corev1.ContainerStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "    [%s] ready=%t started=%t restarts=%d id=%s", c.Name, c.Ready, c.Started != nil && *c.Started, c.RestartCount, c.ContainerID)
	describeState(&b, "", c.State)
	describeState(&b, " last:", c.LastTerminationState)
	b.WriteString("\n")
	return b.String()
}

func describeState(b *strings.Builder, prefix string, s corev1.ContainerState) {
	since := func(t metav1.Time) string { return t.Sub(scriptStart).String() }
	switch {
	case s.Waiting != nil:
		fmt.Fprintf(b, "%s waiting %s %s", prefix, s.Waiting.Reason, s.Waiting.Message)
	case s.Running != nil:
		fmt.Fprintf(b, "%s running since %s", prefix, since(s.Running.StartedAt))
	case s.Terminated != nil:
		fmt.Fprintf(b, "%s terminated %s code=%d at %s %s", prefix, s.Terminated.Reason, s.Terminated.ExitCode,
			since(s.Terminated.FinishedAt), s.Terminated.Message)
	}
}

// TestClockSetBack: a back-off ends although the clock was set back by ten years after the exit.
func TestClockSetBack(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "web"}}
	now := time.Now() // with a monotonic reading, as a worker has it
	o := Observed{
		Volumes: Stage{State: Done}, Sandbox: Stage{State: Done},
		Images:     map[string]Image{"app": {Ref: "web", Stage: Stage{State: Done}}},
		Containers: map[string]Container{"app": {ID: "x", State: Running, Ran: true, Crashes: 1, Started: now.AddDate(10, 0, 0)}},
	}
	o.Exited("app", Exit{ID: "x", Code: 1, At: now.AddDate(10, 0, 0)}, now)
	if plan := Next(pod, o, now); len(plan.Actions) != 0 || plan.Wake.Sub(now) != backOffFirst {
		t.Errorf("at once: %v, wake %s", plan.Actions, plan.Wake.Sub(now))
	}
	if plan := Next(pod, o, now.Add(backOffFirst)); len(plan.Actions) != 1 || plan.Actions[0].Verb != StartContainer {
		t.Errorf("after the back-off: %v", plan.Actions)
	}
}
