package edgeagent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/edgeagent/keeper"
)

// TestRandomLives plays random histories of a node: agents killed, power cut, the keeper away or restarted empty, containers
// crashing, pods coming, going and being deleted. When the weather is calm again, exactly the wanted pods run, each
// once, and nothing of any other is left on the node.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				l := &life{world: w, rnd: rand.New(rand.NewPCG(seed, 7)), wanted: map[string]*corev1.Pod{}}
				w.boot()
				for range 60 {
					l.something()
					l.checkTwins()
				}
				l.calm()
			})
		})
	}
}

type life struct {
	*world
	rnd    *rand.Rand
	wanted map[string]*corev1.Pod
	next   int
}

func (l *life) something() {
	switch l.rnd.IntN(12) {
	case 0, 1, 2:
		l.wantOneMore()
	case 3:
		l.dropOne()
	case 4:
		l.deleteOne()
	case 5, 6:
		l.kill()
		if l.rnd.IntN(3) == 0 {
			l.keeper.powerCut()
			clear(l.sandboxes.uids)
		}
		l.boot()
	case 7:
		l.keeper.setAway(l.rnd.IntN(2) == 0)
	case 8:
		l.forgetOne()
	default:
		l.crashOne()
	}
	l.settle(time.Duration(l.rnd.IntN(20000)) * time.Millisecond)
}

var specs = []string{
	oneContainer,
	`{terminationGracePeriodSeconds: 3, containers: [{name: a, image: web}, {name: b, image: web, readinessProbe: {exec: {command: [x]}}}]}`,
	`{initContainers: [{name: i, image: web}, {name: s, image: web, restartPolicy: Always}], containers: [{name: app, image: web}]}`,
}

func (l *life) wantOneMore() {
	l.keeper.mu.Lock()
	l.keeper.instant["i"] = true
	l.keeper.mu.Unlock()
	uid := fmt.Sprintf("p%d", l.next)
	l.wanted[uid] = aPod(l.t, uid, specs[l.next%len(specs)])
	l.next++
	l.tell()
}

func (l *life) dropOne() {
	if uid, ok := pick(l.rnd, l.wanted); ok {
		delete(l.wanted, uid)
		l.tell()
	}
}

func (l *life) deleteOne() {
	if uid, ok := pick(l.rnd, l.wanted); ok {
		now := metav1.Now()
		l.wanted[uid].DeletionTimestamp = &now
		l.tell()
	}
}

// tell gives the node the wanted set. A node whose keeper is away takes it later: the coordinator tries again.
func (l *life) tell() {
	if l.keeper.isAway() {
		return
	}
	l.desire(slices.Collect(maps.Values(l.wanted))...)
}

func (k *fakeKeeper) isAway() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.away
}

func (l *life) crashOne() {
	if ids := l.keeper.running(); len(ids) > 0 {
		l.keeper.exit(ids[l.rnd.IntN(len(ids))], l.rnd.IntN(2))
	}
}

// forgetOne has the keeper lose a container, as if it had been restarted without its state.
func (l *life) forgetOne() {
	l.keeper.mu.Lock()
	defer l.keeper.mu.Unlock()
	if id, ok := pick(l.rnd, l.keeper.containers); ok {
		delete(l.keeper.containers, id)
		l.keeper.away = true
		l.keeper.wake()
	}
}

func pick[V any](rnd *rand.Rand, m map[string]V) (string, bool) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return "", false
	}
	return keys[rnd.IntN(len(keys))], true
}

// checkTwins: no container of a pod ever runs twice at once.
func (l *life) checkTwins() {
	l.t.Helper()
	seen := map[string]string{}
	for _, id := range l.keeper.running() {
		c := l.keeper.spec(id).Labels
		name := c["io.kubernetes.pod.uid"] + "/" + c["io.kubernetes.container.name"]
		if other, twice := seen[name]; twice {
			l.t.Errorf("%s runs twice: %s and %s", name, other, id)
		}
		seen[name] = id
	}
}

// calm ends the trouble and checks where the node has come to.
func (l *life) calm() {
	l.keeper.setAway(false)
	l.settle(time.Minute)
	for uid, p := range l.wanted {
		if p.DeletionTimestamp != nil {
			if _, gone := l.reports.status(uid); gone {
				delete(l.wanted, uid)
			}
		}
	}
	l.desire(slices.Collect(maps.Values(l.wanted))...)
	l.settle(30 * time.Minute)
	want := map[string]bool{}
	pods := map[string]bool{}
	for uid, p := range l.wanted {
		if p.DeletionTimestamp != nil {
			if _, gone := l.reports.status(uid); !gone {
				l.t.Errorf("%s was deleted and is not gone", uid)
			}
			continue
		}
		pods[uid] = true
		for _, c := range p.Spec.Containers {
			want[uid+"/"+c.Name] = true
		}
		for _, c := range p.Spec.InitContainers {
			if c.RestartPolicy != nil {
				want[uid+"/"+c.Name] = true
			}
		}
		if s, _ := l.reports.status(uid); !podReady(s) {
			l.t.Errorf("%s is not ready: %s", uid, l.phase(uid))
		}
	}
	l.checkLeft(want, pods)
}

func (l *life) checkLeft(want, pods map[string]bool) {
	running, records := map[string]bool{}, map[string]bool{}
	l.keeper.mu.Lock()
	for _, c := range l.keeper.containers {
		records[c.Labels["io.kubernetes.pod.uid"]] = true
		if c.State == keeper.Running {
			running[c.Labels["io.kubernetes.pod.uid"]+"/"+c.Labels["io.kubernetes.container.name"]] = true
		}
	}
	l.keeper.mu.Unlock()
	l.check("running", running, want)
	l.check("pods with containers", records, pods)
	sandboxes, err := l.sandboxes.List()
	must(l.t, err)
	volumes, err := l.loop.node.volumes.Pods()
	must(l.t, err)
	l.check("sandboxes", set(sandboxes), pods)
	l.check("volumes", set(volumes), pods)
	mounted, err := l.images.Mounted()
	must(l.t, err)
	for _, id := range l.keeper.all() {
		if !slices.Contains(mounted, id) {
			l.t.Errorf("%s lives without a root file system", id)
		}
	}
	// An instance that the keeper has lost keeps its file system until its pod goes.
	for _, id := range mounted {
		if uid, _, _ := strings.Cut(id, "-"); !pods[uid] {
			l.t.Errorf("root file system of %s is left", id)
		}
	}
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}
