package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/tests/cluster"
)

// shared is the cluster of all tests that need no other.
var shared *cluster.Cluster

// limit is for anything that must come to be, on a machine that is busy with other tests.
const limit = 90 * time.Second

// atOnce is how many parallel tests run: they mostly wait for the cluster.
const atOnce = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// run gives all tests one cluster, and checks at the end that nothing of it is left.
func run(m *testing.M) (code int, err error) {
	if os.Getuid() != 0 {
		return 1, errors.New("the end-to-end tests run real containers: run them as root")
	}
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() != atOnce {
		if err := f.Value.Set(atOnce); err != nil {
			return 1, err
		}
	}
	if err := checkTools(); err != nil {
		return 1, err
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "skerry-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // user namespaces need to pass through
		return 1, err
	}
	shared, err = cluster.Start(ctx, cluster.Options{
		DataDir: filepath.Join(dir, "up"), Env: []string{"SKERRY_DEVICES_CLASSES=" + meterClass + " path=" + meterFolder + "/*"},
	})
	if err != nil {
		return 1, err
	}
	if err := makeImage(ctx, shared, dir); err != nil {
		return 1, errors.Join(fmt.Errorf("make test image: %w", err), shared.Stop())
	}
	code = m.Run()
	if err := nothingLeft(ctx, shared); err != nil {
		return 1, err
	}
	return code, nil
}

// nothingLeft stops a cluster and looks for what it has left on the machine.
func nothingLeft(ctx context.Context, c *cluster.Cluster) error {
	if err := c.Stop(); err != nil {
		return err
	}
	left, err := cluster.Leftovers(ctx, c.DataDir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	return err
}

// checkTools says what to build when something is missing.
func checkTools() error {
	root := filepath.Join("..", "..")
	for _, file := range []string{
		"bin/skerry", "bin/skerry-coordinator", "bin/skerry-agent", "bin/skerry-keeper",
		".cache/bin/kubectl", ".cache/bin/kubectl-debian", ".cache/bin/helm", ".cache/bin/nats", ".cache/bin/crane",
	} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			return fmt.Errorf("%w: run `make build tools` first, or the whole `make e2e`", err)
		}
	}
	return nil
}

// space is a test's own namespace on the shared cluster.
type space struct {
	*testing.T
	name string
}

// newSpace makes a namespace that goes with the test.
func newSpace(t *testing.T) space {
	t.Helper()
	s := space{T: t, name: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))}
	s.kubectl("create namespace " + s.name)
	t.Cleanup(func() {
		if t.Failed() {
			s.show()
		}
		out, err := shared.Kubectl(context.Background(), "", "delete", "namespace", s.name, "--wait=false", "--ignore-not-found")
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return s
}

// show helps whoever reads a failure.
func (s space) show() {
	for _, args := range [][]string{{"get", "pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"}} {
		out, err := shared.Kubectl(context.Background(), "", append(args, "-n", s.name)...)
		s.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubectl runs kubectl in the namespace; args are split at blanks.
func (s space) kubectl(args string) string {
	s.Helper()
	return s.kubectlArgs("", strings.Fields(args)...)
}

func (s space) kubectlArgs(input string, args ...string) string {
	s.Helper()
	out, err := shared.Kubectl(s.Context(), input, s.in(args)...)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// in puts -n before "--", which ends kubectl's own arguments.
func (s space) in(args []string) []string { return append([]string{"-n", s.name}, args...) }

// refused runs kubectl and wants it to fail; it returns all that was printed.
func (s space) refused(input string, args ...string) string {
	s.Helper()
	out, err := shared.Kubectl(s.Context(), input, s.in(args)...)
	if err == nil {
		s.Fatalf("kubectl %s was not refused:\n%s", strings.Join(args, " "), out)
	}
	return err.Error()
}

// apply posts manifests; IMAGE in them stands for the test image.
func (s space) apply(manifest string) string {
	s.Helper()
	return s.kubectlArgs(manifestOf(manifest), "apply", "-f", "-")
}

func manifestOf(text string) string { return strings.ReplaceAll(text, "IMAGE", imageV1) }

// get reads an object or list.
func get[T any](s space, args string) T {
	s.Helper()
	out, err := tryGet[T](s, args)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func tryGet[T any](s space, args string) (T, error) {
	var out T
	text, err := shared.Kubectl(s.Context(), "", s.in(append([]string{"get", "-o", "json"}, strings.Fields(args)...))...)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(text), &out)
}

// await polls an object until ok, and returns it. Where it says nothing, the object's status is shown.
func await[T any](s space, what, args string, ok func(T) bool) T {
	s.Helper()
	var last T
	err := cluster.Poll(s.Context(), limit, what, func() (bool, error) {
		got, err := tryGet[T](s, args)
		if err != nil {
			return false, err
		}
		if last = got; ok(got) {
			return true, nil
		}
		return false, fmt.Errorf("%s is %s", args, brief(got))
	})
	if err != nil {
		s.Fatal(err)
	}
	return last
}

// brief is an object's status, or the whole object.
func brief(object any) string {
	data, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	var parts struct{ Status json.RawMessage }
	if err := json.Unmarshal(data, &parts); err == nil && len(parts.Status) > 2 {
		return string(parts.Status)
	}
	return string(data)
}

// poll waits for anything else.
func (s space) poll(what string, ask func() (bool, error)) {
	s.Helper()
	if err := cluster.Poll(s.Context(), limit, what, ask); err != nil {
		s.Fatal(err)
	}
}

func condition(p corev1.Pod, name corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == name {
			return c
		}
	}
	return corev1.PodCondition{}
}

func isReady(p corev1.Pod) bool {
	return condition(p, corev1.PodReady).Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
}

// ready waits for a pod to be ready.
func (s space) ready(pod string) corev1.Pod {
	s.Helper()
	return await(s, pod+" ready", "pod "+pod, isReady)
}

// ended waits for a pod to end, well or not.
func (s space) ended(pod string) corev1.Pod {
	s.Helper()
	return await(s, pod+" ended", "pod "+pod, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// readyPods waits until exactly n pods match and all are ready.
func (s space) readyPods(selector string, n int) []corev1.Pod {
	s.Helper()
	return await(s, fmt.Sprintf("%d pods %s ready", n, selector), "pods -l "+selector, func(l corev1.PodList) bool {
		ready := 0
		for _, p := range l.Items {
			if isReady(p) {
				ready++
			}
		}
		return ready == n && len(l.Items) == n
	}).Items
}

// logs waits until a container's log holds want.
func (s space) logs(want string, args ...string) string {
	s.Helper()
	var out string
	s.poll("log with "+want, func() (bool, error) {
		var err error
		out, err = shared.Kubectl(s.Context(), "", s.in(append([]string{"logs"}, args...))...)
		if err == nil && strings.Contains(out, want) {
			return true, nil
		}
		return false, errors.Join(err, fmt.Errorf("log is %q", out))
	})
	return out
}

// ask gets a path from a pod, from its own node. A pod without a readiness probe is Ready before it listens.
func (s space) ask(p corev1.Pod, path string) string {
	s.Helper()
	var out string
	s.poll("answer of "+p.Name, func() (ok bool, err error) {
		out, err = shared.FetchFrom(s.Context(), p.Spec.NodeName, "http://"+p.Status.PodIP+":8080"+path)
		if err != nil && !strings.Contains(err.Error(), "connection refused") {
			return false, cluster.Permanent(err)
		}
		return err == nil, err
	})
	return out
}

// wants checks that text holds all parts; one that begins with "!" must not be there.
func (s space) wants(text string, parts ...string) {
	s.Helper()
	for _, part := range parts {
		word, absent := strings.CutPrefix(part, "!")
		if strings.Contains(text, word) == absent {
			s.Errorf("want %q in\n%s", part, text)
		}
	}
}

func uids(pods []corev1.Pod) map[types.UID]int32 {
	out := map[types.UID]int32{}
	for _, p := range pods {
		out[p.UID] = restarts(p)
	}
	return out
}

func restarts(p corev1.Pod) (n int32) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}
