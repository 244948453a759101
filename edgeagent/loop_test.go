package edgeagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/edgeagent/volume"
	"skerry.dev/skerry/messaging"
)

// world is a node whose agent can be killed and started again.
type world struct {
	t         *testing.T
	dir       string
	keeper    *fakeKeeper
	sandboxes *fakeSandboxes
	images    *fakeImages
	reports   *fakeReports
	curve     nkeys.KeyPair
	revision  uint64
	proofs    atomic.Int64               // of contact
	claims    map[string]messaging.Claim // of all pods

	loop *loop
	stop context.CancelFunc
	done chan error
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		curve, err := nkeys.CreateCurveKeys()
		must(t, err)
		w := &world{
			t: t, dir: t.TempDir(), keeper: newFakeKeeper(), reports: &fakeReports{}, curve: curve, revision: 100,
			sandboxes: &fakeSandboxes{uids: map[string]netip.Addr{}},
			images:    &fakeImages{rootfs: t.TempDir(), mounted: map[string]bool{}, missing: map[string]bool{}},
		}
		f(t, w)
		w.kill()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// boot starts an agent on what is on the disk.
func (w *world) boot() {
	w.t.Helper()
	store, state, err := checkpoint.Open(filepath.Join(w.dir, "checkpoint"))
	must(w.t, errors.Join(append(state.Damage, err)...))
	held, err := uplink.Decode(state.Manifest, state.Pods)
	must(w.t, err)
	n := &node{
		users: idrange.NewLedger(filepath.Join(w.dir, "ids")),
		log:   slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), keeper: w.keeper,
		sandboxes: w.sandboxes, images: w.images, volumes: volume.New(filepath.Join(w.dir, "pods"), filepath.Join(w.dir, "persistent"), netip.Addr{}),
		logs: logs.NewFolder(filepath.Join(w.dir, "logs")), report: w.reports, store: store, curve: w.curve,
		cgroups: "/skerry", ports: newHostPorts(nil, uplink.Desired{}, nil, slog.New(slog.DiscardHandler)), pulls: make(gate, 2), setup: make(gate, 2),
	}
	n.now.Store(&facts{HostIPs: []string{"10.41.0.11"}, MemoryBytes: 1 << 30})
	w.loop = newLoop(n, store, held, state.Memories, newContact(w.dir))
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop, w.done = cancel, make(chan error, 3)
	go func() { w.done <- w.loop.run(ctx) }()
	go func() { w.done <- w.loop.followExits(ctx) }()
	go func() { w.done <- w.loop.fence(ctx, func(context.Context) error { w.proofs.Add(1); return nil }) }()
	synctest.Wait()
}

// kill ends the agent. Containers stay.
func (w *world) kill() {
	if w.stop == nil {
		return
	}
	w.stop()
	for range 3 {
		if err := <-w.done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("agent ended with %v", err)
		}
	}
	w.stop = nil
}

// desire gives the node a new complete set.
func (w *world) desire(pods ...*corev1.Pod) {
	w.t.Helper()
	d := w.set(pods...)
	must(w.t, w.loop.setDesired(w.t.Context(), d))
	w.settle(0)
}

func (w *world) set(pods ...*corev1.Pod) uplink.Desired {
	w.t.Helper()
	m := messaging.Manifest{Cluster: "c", Epoch: 1, Pods: []messaging.PodRef{}}
	sources := map[string]messaging.Assigned{}
	for _, p := range pods {
		w.revision++
		raw, err := p.Marshal()
		must(w.t, err)
		data, err := json.Marshal(messaging.Assignment{Pod: raw, ConfigMaps: w.configMaps(p), Claims: w.claims})
		must(w.t, err)
		uid := string(p.UID)
		sources[uid] = messaging.Assigned{Node: "n1", Part: messaging.PodPart(uid), Revision: w.revision, Data: data}
		m.Pods = append(m.Pods, messaging.PodRef{UID: uid, Revision: w.revision})
	}
	w.revision++
	m.Generation = w.revision
	data, err := json.Marshal(m)
	must(w.t, err)
	d, err := uplink.Decode(messaging.Assigned{Node: "n1", Part: "manifest", Revision: w.revision, Data: data}, sources)
	must(w.t, err)
	return d
}

// configMaps: an annotation of the pod stands for a config map called settings.
func (w *world) configMaps(p *corev1.Pod) map[string]map[string][]byte {
	if value, ok := p.Annotations["test/settings"]; ok {
		return map[string]map[string][]byte{"settings": {"key": []byte(value)}}
	}
	return nil
}

// settle lets virtual time pass and all work be done.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func aPod(t *testing.T, uid, spec string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-" + uid, Namespace: "default", UID: types.UID(uid), Annotations: map[string]string{}}}
	must(t, yaml.UnmarshalStrict([]byte(spec), &p.Spec))
	return p
}

const oneContainer = `containers: [{name: app, image: web}]`

func (w *world) check(what string, got, want any) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (w *world) phase(uid string) string {
	s, gone := w.reports.status(uid)
	out := string(s.Phase)
	if podReady(s) {
		out += " ready"
	}
	for _, c := range s.ContainerStatuses {
		if c.State.Waiting != nil {
			out += " " + c.State.Waiting.Reason
		}
		out += fmt.Sprintf(" %d", c.RestartCount)
	}
	if gone {
		out += " gone"
	}
	return out
}

func podReady(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func TestStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.check("running", w.keeper.running(), []string{"u1-app-0"})
		w.check("status", w.phase("u1"), "Running ready 0")
		spec := w.keeper.spec("u1-app-0")
		w.check("namespaces", spec.Namespaces, keeper.Namespaces{Net: "/ns/u1/net", IPC: "/ns/u1/ipc", UTS: "/ns/u1/uts"})
		if len(w.reports.pods) != 1 {
			t.Errorf("%d reports of a start that takes no time, want one", len(w.reports.pods))
		}
		s, _ := w.reports.status("u1")
		w.check("addresses", []string{s.PodIP, s.HostIP}, []string{"10.42.1.2", "10.41.0.11"})
	})
}

func TestExitAndRestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.keeper.exit("u1-app-0", 3)
		w.settle(0)
		w.check("restarted at once", w.keeper.running(), []string{"u1-app-1"})
		w.check("nothing of the first is left", w.keeper.all(), []string{"u1-app-1"})
		w.keeper.exit("u1-app-1", 3)
		w.settle(time.Second)
		w.check("backs off", w.phase("u1"), "Running CrashLoopBackOff 1")
		w.settle(10 * time.Second)
		w.check("runs again", w.phase("u1"), "Running ready 2")
	})
}

// TestHangingCreate: people hear of a keeper that does not answer, once, and the pod starts when it does.
func TestHangingCreate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keeper.hung = make(chan struct{})
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.settle(actionPatience - time.Second)
		w.check("as usual", w.reports.reasons(), "Pulled")
		w.settle(actionPatience)
		w.check("late", w.reports.reasons(), "Pulled Failed")
		close(w.keeper.hung)
		w.settle(time.Second)
		w.check("answered", w.phase("u1"), "Running ready 0")
		w.check("events", w.reports.reasons(), "Pulled Failed Started")
	})
}

// TestShortLife: a container that ends before its start is answered is not waited for.
func TestShortLife(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keeper.instant["app"] = true
		w.boot()
		w.desire(aPod(t, "u1", `{restartPolicy: Never, containers: [{name: app, image: web}]}`))
		w.check("status", w.phase("u1"), "Succeeded 0")
	})
}

// TestAgentDies: a new agent takes over what runs, touches nothing, and never reports it as unready.
func TestAgentDies(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		probed := `containers: [{name: app, image: web, readinessProbe: {exec: {command: [check]}}, startupProbe: {exec: {command: [check]}}}]`
		w.desire(aPod(t, "u1", probed), aPod(t, "u2", oneContainer))
		w.keeper.exit("u2-app-0", 1)
		w.settle(time.Second)
		w.kill()
		w.keeper.exit("u2-app-1", 1) // while no agent is there
		w.keeper.heard()
		w.reports.pods = nil
		w.boot()
		w.settle(0)
		w.check("calls", w.keeper.heard(), "")
		w.settle(3 * time.Second)
		w.check("running", w.keeper.running(), []string{"u1-app-0"})
		w.check("u1", w.phase("u1"), "Running ready 0")
		w.check("u2 remembers its crash loop", w.phase("u2"), "Running CrashLoopBackOff 1")
		for i := range w.reports.pods {
			one := &fakeReports{pods: w.reports.pods[i : i+1]}
			if s, _ := one.status("u1"); s.Phase != "" && !podReady(s) {
				t.Errorf("u1 was reported as unready: %v", s.Conditions)
			}
		}
		w.desire(aPod(t, "u1", probed))
		w.check("the rest is removed", w.keeper.all(), []string{"u1-app-0"})
	})
}

// TestExitOfAnEarlierInstance: an ID that was used before a power cut is used again when the agent died before it had
// remembered the first; the exit of the first, which the log still tells of, is no news of the second.
func TestExitOfAnEarlierInstance(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keeper.buried("u1-app-0", "u1", "app")
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.settle(time.Second)
		w.kill()
		w.keeper.heard()
		w.boot() // hears the whole log again
		w.settle(time.Minute)
		w.check("one instance, the same", w.keeper.running(), []string{"u1-app-0"})
		w.check("nothing was started", w.keeper.heard(), "")
		w.check("status", w.phase("u1"), "Running ready 0")
		w.desire()
		w.settle(time.Minute)
		w.check("all of it is gone", w.keeper.all(), []string(nil))
	})
}

// TestGoneMeansNothingRuns: an instance that the agent has lost sight of goes before its pod is reported as gone.
func TestGoneMeansNothingRuns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.settle(time.Second)
		w.keeper.stray("u1-app-9", "u1", "app")
		w.desire()
		w.settle(time.Minute)
		w.check("left", w.keeper.all(), []string(nil))
		if _, gone := w.reports.status("u1"); !gone {
			t.Error("u1 was not reported as gone")
		}
	})
}

// TestPowerCutWhileCutOff: without a link the node starts its pods again from the checkpoint.
func TestPowerCutWhileCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.settle(time.Second)
		w.kill()
		w.keeper.powerCut()
		clear(w.sandboxes.uids)
		w.boot()
		w.settle(firstManifest + time.Second)
		w.check("running", w.keeper.running(), []string{"u1-app-1"})
		w.check("status", w.phase("u1"), "Running ready 1")
	})
}

// TestPowerCutInACrashLoop: a container that ran when the power went starts at once, one that was backing off goes on doing so.
func TestPowerCutInACrashLoop(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer), aPod(t, "u2", oneContainer))
		for i := range 2 {
			w.keeper.exit(fmt.Sprintf("u1-app-%d", i), 1)
			w.keeper.exit(fmt.Sprintf("u2-app-%d", i), 1)
			w.settle(time.Second)
		}
		w.settle(10 * time.Second) // both run again
		w.keeper.exit("u2-app-2", 1)
		w.settle(time.Second)
		w.kill()
		w.keeper.powerCut()
		w.boot()
		w.loop.setCurrent() // the coordinator has nothing newer
		w.settle(0)
		w.check("running", w.keeper.running(), []string{"u1-app-3"})
		w.check("u2", w.phase("u2"), "Running CrashLoopBackOff 2")
	})
}

// TestMovedAwayMeanwhile: a pod that the first manifest after a boot does not name is not started for nothing.
func TestMovedAwayMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer), aPod(t, "u2", oneContainer))
		w.settle(time.Second)
		w.kill()
		w.keeper.powerCut()
		w.keeper.heard()
		w.boot()
		w.settle(time.Second)
		w.desire(aPod(t, "u2", oneContainer))
		w.settle(5 * time.Second)
		w.check("running", w.keeper.running(), []string{"u2-app-1"})
		if calls := w.keeper.heard(); strings.Contains(calls, "start u1") {
			t.Errorf("u1 was started: %s", calls)
		}
		w.check("nothing of u1 is left", w.keeper.all(), []string{"u2-app-1"})
	})
}

// TestFinishedStaysFinished: a job that is done does not run again after a power cut, even if the keeper has forgotten it.
func TestFinishedStaysFinished(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", `{restartPolicy: OnFailure, containers: [{name: app, image: web}]}`))
		w.keeper.exit("u1-app-0", 0)
		w.settle(time.Second)
		w.check("status", w.phase("u1"), "Succeeded 0")
		w.kill()
		w.keeper.containers = map[string]*keeper.Container{}
		w.keeper.heard()
		w.boot()
		w.settle(5 * time.Second)
		w.check("calls", w.keeper.heard(), "")
		w.check("status", w.phase("u1"), "Succeeded 0")
	})
}

// TestOrphans: containers that no manifest has ever named go on until one that is newer leaves them out.
func TestOrphans(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.kill()
		w.dir = t.TempDir() // the checkpoint is lost
		w.boot()
		left := filepath.Join(w.dir, "logs", "u9", "app")
		must(t, os.MkdirAll(left, 0o700))
		w.settle(time.Hour)
		w.check("still running", w.keeper.running(), []string{"u1-app-0"})
		w.desire(aPod(t, "u2", oneContainer))
		w.settle(time.Second)
		w.check("replaced", w.keeper.all(), []string{"u2-app-0"})
		if _, gone := w.reports.status("u1"); !gone {
			t.Error("u1 was not reported as gone")
		}
		if _, err := os.Stat(filepath.Dir(left)); !os.IsNotExist(err) {
			t.Errorf("logs of a pod that nobody knows are still there: %v", err)
		}
	})
}

func TestKeeperAwayAtBoot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer))
		w.kill()
		w.keeper.setAway(true)
		w.keeper.heard()
		w.reports.pods = nil
		w.boot()
		w.settle(time.Minute)
		if w.loop.healthy() == nil {
			t.Error("a node without its keeper calls itself healthy")
		}
		w.check("reports", len(w.reports.pods), 0)
		w.keeper.setAway(false)
		w.settle(time.Minute)
		w.check("healthy", w.loop.healthy(), nil)
		w.check("calls", w.keeper.heard(), "")
		w.check("status", w.phase("u1"), "Running ready 0")
	})
}

// TestKeeperRestarts: exits that nobody announced are found, and nothing else is believed to have ended.
func TestKeeperRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", oneContainer), aPod(t, "u2", oneContainer))
		w.keeper.setAway(true)
		w.settle(time.Minute)
		w.check("while away", w.phase("u1"), "Running ready 0")
		w.keeper.mu.Lock()
		delete(w.keeper.containers, "u2-app-0")
		w.keeper.mu.Unlock()
		w.keeper.setAway(false)
		w.settle(5 * time.Second)
		w.check("running", w.keeper.running(), []string{"u1-app-0", "u2-app-1"})
	})
}

func TestDelete(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keeper.stubborn["app"] = true
		w.boot()
		p := aPod(t, "u1", `{terminationGracePeriodSeconds: 5, containers: [{name: app, image: web}]}`)
		w.desire(p)
		w.keeper.heard()
		now, grace := metav1.Now(), int64(5)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
		w.desire(p)
		w.settle(4 * time.Second)
		w.check("within the grace period", w.keeper.heard(), "kill u1-app-0 15")
		w.settle(2 * time.Second)
		w.check("after it", w.keeper.heard(), "kill u1-app-0 9; delete u1-app-0")
		w.check("status", w.phase("u1"), "Running 0 gone")
		w.check("sandboxes", len(w.sandboxes.uids), 0)
		reports := len(w.reports.pods)
		w.desire(p) // listed for as long as the coordinator has not taken note
		w.settle(time.Minute)
		w.check("not started again", w.keeper.heard(), "")
		w.check("nor reported again", len(w.reports.pods), reports)
		w.kill()
		w.boot()
		w.settle(time.Minute)
		w.check("a new agent says so again", w.phase("u1"), "Pending ContainerCreating 0 gone")
		w.check("without starting it", w.keeper.all(), []string(nil))
	})
}

func TestMissingConfigMap(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		p := aPod(t, "u1", `containers: [{name: app, image: web, env: [{name: K, valueFrom: {configMapKeyRef: {name: settings, key: key}}}]}]`)
		w.desire(p)
		w.settle(time.Second)
		w.check("status", w.phase("u1"), "Pending CreateContainerConfigError 0")
		w.check("events", w.reports.reasons(), "Pulled Failed")
		p.Annotations["test/settings"] = "v"
		w.desire(p)
		w.settle(time.Second)
		w.check("status", w.phase("u1"), "Running ready 0")
		if env := w.keeper.spec("u1-app-0").Env; !strings.Contains(strings.Join(env, " "), "K=v") {
			t.Errorf("environment %q", env)
		}
	})
}

func TestFailuresShow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.images.missing["none"] = true
		w.keeper.startError["bad"] = errors.New("exec: /nope: no such file")
		w.boot()
		w.desire(aPod(t, "u1", `containers: [{name: app, image: none}]`), aPod(t, "u2", `containers: [{name: bad, image: web}]`))
		w.settle(time.Second)
		w.check("no image", w.phase("u1"), "Pending ErrImagePull 0")
		w.check("no command", w.phase("u2"), "Running CrashLoopBackOff 1")
		w.settle(5 * time.Second)
		w.check("no image, later", w.phase("u1"), "Pending ImagePullBackOff 0")
		w.sandboxes.fail = errors.New("no address left")
		w.desire(aPod(t, "u3", oneContainer))
		w.settle(time.Second)
		s, _ := w.reports.status("u3")
		w.check("no address", s.ContainerStatuses[0].State.Waiting.Message, "no address left")
	})
}

// TestStopAfter: a cut-off node stops the pod when its time is over, also when the agent was restarted meanwhile, and runs
// it again when contact is back.
func TestStopAfter(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := aPod(t, "u1", oneContainer)
		p.Annotations["skerry.dev/stop-after"] = "1h"
		w.boot()
		w.loop.setLink(true)
		w.desire(p)
		w.settle(time.Minute)
		if n := w.proofs.Load(); n < 2 || n > 5 {
			t.Errorf("contact proven %d times in a minute", n)
		}
		if left := w.keeper.deadlines["u1-app-0"] - sinceBoot(); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the keeper kills the container in %s, want an hour from the last contact", left)
		}
		w.loop.setLink(false)
		w.settle(time.Hour)
		proofs := w.proofs.Load()
		w.check("running while the time is not over", w.keeper.running(), []string{"u1-app-0"})
		// The clock of the boot does not run in virtual time: move what it is compared with.
		w.loop.node.contact.Add(-int64(time.Hour))
		must(t, w.loop.ask(t.Context(), func(context.Context) error { return nil }))
		w.settle(time.Second)
		w.check("stopped", w.keeper.running(), []string(nil))
		w.check("status", w.phase("u1"), "Running Paused 0")
		w.check("proofs while cut off", w.proofs.Load(), proofs)
		w.loop.setLink(true)
		w.settle(time.Second)
		w.check("back", w.phase("u1"), "Running ready 1")
	})
}

func TestProbes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ready := false
		w.keeper.exec = func(string, []string) keeper.ExecResult {
			if ready {
				return keeper.ExecResult{}
			}
			return keeper.ExecResult{ExitCode: 1, Output: []byte("not yet")}
		}
		w.boot()
		w.desire(aPod(t, "u1", `containers: [{name: app, image: web, readinessProbe: {periodSeconds: 5, exec: {command: [check]}}}]`))
		w.settle(time.Second)
		w.check("not ready", w.phase("u1"), "Running 0")
		w.keeper.mu.Lock()
		ready = true
		w.keeper.mu.Unlock()
		w.settle(5 * time.Second)
		w.check("ready", w.phase("u1"), "Running ready 0")
	})
}

// TestIdleIsSilent: a pod that just runs costs no report and no write.
func TestIdleIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", `containers: [{name: app, image: web, livenessProbe: {exec: {command: [check]}}}]`))
		w.settle(time.Minute)
		reports := len(w.reports.pods)
		store := &countingStore{Store: w.loop.store}
		w.loop.node.store = store
		w.settle(24 * time.Hour)
		w.check("reports in a day", len(w.reports.pods)-reports, 0)
		w.check("writes in a day", store.writes, 0)
	})
}

type countingStore struct {
	Store
	writes int
}

func (s *countingStore) SaveMemory(uid string, m checkpoint.Memory) error {
	s.writes++
	return s.Store.SaveMemory(uid, m)
}
