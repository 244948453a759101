package nodelifecycle_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/nodelifecycle"
)

// TestScripts plays heartbeats and silence. Heartbeats are due every 5 s, so a node is silent after 15 s.
func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(nodelifecycle.Controller(nodelifecycle.Options{}).Plan)
		commands["node"] = func(args []string) ([]string, error) { return nil, node(w, args) }
		commands["pod"] = func(args []string) ([]string, error) { return nil, pod(w, args) }
		commands["hear"] = func(args []string) ([]string, error) {
			for _, name := range args {
				w.Liveness[name] = controller.Liveness{Heard: w.Now}
			}
			return nil, nil
		}
		commands["nodes"] = func([]string) ([]string, error) { return nodes(w), nil }
		return commands
	})
}

// node name... ready=True|False|none cordoned=true pressure=disk
func node(w *controllertest.World, args []string) error {
	var names []string
	ready, cordoned, pressure := "True", false, false
	for _, arg := range args {
		switch k, v, isSetting := strings.Cut(arg, "="); {
		case !isSetting:
			names = append(names, arg)
		case k == "ready":
			ready = v
		case k == "cordoned":
			cordoned = v == "true"
		case k == "pressure":
			pressure = v == "true"
		default:
			return fmt.Errorf("unknown setting %q", k)
		}
	}
	for _, name := range names {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if have := w.Get(n); have != nil {
			n = have.(*corev1.Node).DeepCopy()
			n.Status.Conditions = nil
		}
		n.Spec.Unschedulable = cordoned
		if ready != "none" {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionStatus(ready), Reason: "AgentSays", Message: "as reported"})
		}
		if pressure {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
		}
		w.Put(n)
	}
	return nil
}

// pod name node tolerate=key:seconds (seconds empty: for ever)
func pod(w *controllertest.World, args []string) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}, Spec: corev1.PodSpec{NodeName: args[1]}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	for _, arg := range args[2:] {
		key, seconds, _ := strings.Cut(strings.TrimPrefix(arg, "tolerate="), ":")
		t := corev1.Toleration{Key: "node.kubernetes.io/" + key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
		if seconds != "" {
			n, err := strconv.ParseInt(seconds, 10, 64)
			if err != nil {
				return err
			}
			t.TolerationSeconds = &n
		}
		p.Spec.Tolerations = append(p.Spec.Tolerations, t)
	}
	controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
	w.Put(p)
	return nil
}

func nodes(w *controllertest.World) []string {
	var lines []string
	for _, n := range w.Snapshot().Nodes {
		text := n.Name
		for _, c := range n.Status.Conditions {
			text += fmt.Sprintf(" %s=%s(%s)", c.Type, c.Status, c.Reason)
		}
		for _, t := range n.Spec.Taints {
			text += fmt.Sprintf(" {%s:%s}", t.Key, t.Effect)
		}
		lines = append(lines, text)
	}
	return lines
}

// TestDetectionIsExact asks for the wake time in fleets of very different size: it is the same.
func TestDetectionIsExact(t *testing.T) {
	plan := nodelifecycle.Controller(nodelifecycle.Options{Heartbeat: 2 * time.Second}).Plan
	for _, size := range []int{1, 10, 10_000} {
		s := &controller.Snapshot{Liveness: map[string]controller.Liveness{}, Started: controllertest.Start}
		for i := range size {
			name := fmt.Sprintf("n%05d", i)
			s.Nodes = append(s.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
			s.Liveness[name] = controller.Liveness{Heard: controllertest.Start.Add(time.Second + time.Duration(i)*time.Microsecond)}
		}
		changes, wake := plan(s, controllertest.Start.Add(2*time.Second))
		if want := controllertest.Start.Add(7 * time.Second); len(changes) != 0 || !wake.Equal(want) {
			t.Errorf("%d nodes: %d changes, wake at %v, want none and %v", size, len(changes), wake, want)
		}
		changes, _ = plan(s, wake)
		if len(changes) != 1 {
			t.Errorf("%d nodes: %d changes at the wake time, want the one silent node's", size, len(changes))
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	plan := nodelifecycle.Controller(nodelifecycle.Options{}).Plan
	s := &controller.Snapshot{Liveness: map[string]controller.Liveness{}, Started: controllertest.Start}
	for i := range 10_000 {
		name := fmt.Sprintf("n%05d", i)
		s.Nodes = append(s.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		s.Liveness[name] = controller.Liveness{Heard: controllertest.Start}
	}
	b.ReportAllocs()
	for b.Loop() {
		if changes, _ := plan(s, controllertest.Start); len(changes) != 0 {
			b.Fatal("changes on a healthy fleet")
		}
	}
}
