package assign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/messaging"
)

// stream is KV_assign in memory. It logs what is written, and can fail.
type stream struct {
	mu   sync.Mutex
	keys map[string]messaging.Assigned
	last uint64
	log  []string
	fail error
}

func (s *stream) Put(_ context.Context, node, part string, data []byte, signature string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.last++
	s.keys[node+"/"+part] = messaging.Assigned{Node: node, Part: part, Data: data, Revision: s.last, Signature: signature}
	s.log = append(s.log, "put "+node+"/"+part)
	return s.last, nil
}

func (s *stream) Delete(_ context.Context, node, part string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	delete(s.keys, node+"/"+part)
	s.log = append(s.log, "delete "+node+"/"+part)
	return nil
}

func (s *stream) List(context.Context, string) ([]messaging.Assigned, error) {
	var out []messaging.Assigned
	for _, k := range s.keys {
		out = append(out, k)
	}
	return out, nil
}

// writes returns what was written since the last call, the service table left out.
func (s *stream) writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := slices.DeleteFunc(s.log, func(w string) bool { return strings.Contains(w, messaging.Broadcast) })
	s.log = nil
	return log
}

func (s *stream) manifest(t *testing.T, node string) messaging.Manifest {
	t.Helper()
	var m messaging.Manifest
	if err := json.Unmarshal(s.keys[node+"/manifest"].Data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *stream) assignment(t *testing.T, node, uid string) (messaging.Assignment, corev1.Pod) {
	t.Helper()
	var a messaging.Assignment
	if err := json.Unmarshal(s.keys[node+"/"+messaging.PodPart(uid)].Data, &a); err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	if err := p.Unmarshal(a.Pod); err != nil {
		t.Fatal(err)
	}
	return a, p
}

// objects is the API's state.
type objects struct {
	changed    chan struct{}
	nodes      []*corev1.Node
	pods       []*corev1.Pod
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	table      messaging.ServiceTable
	claims     map[string]*corev1.PersistentVolumeClaim
	volumes    []*corev1.PersistentVolume
}

func (o *objects) Changed() <-chan struct{}         { return o.changed }
func (o *objects) Nodes() []*corev1.Node            { return o.nodes }
func (o *objects) Pods() []*corev1.Pod              { return o.pods }
func (o *objects) Services() messaging.ServiceTable { return o.table }
func (o *objects) ConfigMap(_, name string) (*corev1.ConfigMap, bool) {
	c, ok := o.configMaps[name]
	return c, ok
}

func (o *objects) Claim(_, name string) (*corev1.PersistentVolumeClaim, bool) {
	c, ok := o.claims[name]
	return c, ok
}

func (o *objects) Volumes() []*corev1.PersistentVolume { return o.volumes }

func (o *objects) Volume(name string) (*corev1.PersistentVolume, bool) {
	for _, v := range o.volumes {
		if v.Name == name {
			return v, true
		}
	}
	return nil, false
}

func (o *objects) Secret(_, name string) (*corev1.Secret, bool) {
	s, ok := o.secrets[name]
	return s, ok
}

// world is a publisher between an API and a stream.
type world struct {
	*Publisher
	stream *stream
	state  *objects
	node   nkeys.KeyPair // node a's curve key
	t      *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	seed, err := messaging.NewSeed()
	must(t, err)
	signer, err := messaging.NewSigner(seed)
	must(t, err)
	seal, err := nkeys.CreateCurveKeys()
	must(t, err)
	node, err := nkeys.CreateCurveKeys()
	must(t, err)
	public, err := node.PublicKey()
	must(t, err)
	w := &world{t: t, node: node, stream: &stream{keys: map[string]messaging.Assigned{}}, state: &objects{
		changed: make(chan struct{}, 1), configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{},
	}}
	w.state.nodes = []*corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{api.AnnotationSealKey: public}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}},
	}
	w.Publisher = New(Config{
		State: w.state, Keys: w.stream, Signer: signer, Sealer: seal, Cluster: "c", Epoch: 7, DigestKey: []byte("k"),
		Log: slog.New(slog.DiscardHandler), Applied: func(string) (uint64, uint64, bool) { return 0, 0, false }, Resync: func(string) {},
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) pass(want ...string) {
	w.t.Helper()
	must(w.t, w.Publisher.pass(w.t.Context()))
	if got := w.stream.writes(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		w.t.Errorf("wrote %q, want %q", got, want)
	}
}

// restart is the publisher of the next coordinator process, on the same stream.
func (w *world) restart(epoch uint64) {
	w.t.Helper()
	c := w.Config
	c.Epoch = epoch
	w.Publisher = New(c)
	must(w.t, w.load(w.t.Context()))
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func TestPodsBeforeTheManifestThatListsThem(t *testing.T) {
	w := newWorld(t)
	w.state.pods = []*corev1.Pod{pod("x", "a"), pod("unbound", ""), pod("stray", "unknown-node")}
	must(t, w.Publisher.pass(t.Context()))
	var onA []string
	for _, write := range w.stream.writes() {
		if strings.Contains(write, " a/") {
			onA = append(onA, write)
		}
	}
	if want := []string{"put a/pod.uid-x", "put a/manifest"}; !slices.Equal(onA, want) {
		t.Errorf("wrote %q, want %q in this order", onA, want)
	}
	m := w.stream.manifest(t, "a")
	key := w.stream.keys["a/pod.uid-x"]
	if m.Cluster != "c" || m.Epoch != 7 || m.Generation != 1 || len(m.Pods) != 1 || m.Pods[0] != (messaging.PodRef{UID: "uid-x", Revision: key.Revision}) {
		t.Errorf("manifest %+v does not point at revision %d", m, key.Revision)
	}
	signer, err := w.Signer.(*messaging.Signer).PublicKey()
	must(t, err)
	must(t, key.Verify(signer))
	must(t, w.stream.keys["b/manifest"].Verify(signer))
	w.pass()
}

func TestStatusIsNoChange(t *testing.T) {
	w := newWorld(t)
	x := pod("x", "a")
	w.state.pods = []*corev1.Pod{x}
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()

	reported := x.DeepCopy()
	reported.Status.Phase, reported.ResourceVersion = corev1.PodRunning, "2"
	w.state.pods = []*corev1.Pod{reported}
	w.pass()

	deleting := reported.DeepCopy()
	deleting.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	w.state.pods = []*corev1.Pod{deleting}
	w.pass("put a/pod.uid-x", "put a/manifest")
	if _, p := w.stream.assignment(t, "a", "uid-x"); p.DeletionTimestamp == nil || p.Status.Phase != "" {
		t.Errorf("the node is told %+v", p)
	}

	w.state.pods = nil
	w.pass("put a/manifest", "delete a/pod.uid-x")
}

func TestRestartWritesNothing(t *testing.T) {
	w := newWorld(t)
	x := pod("x", "a")
	x.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}}
	w.state.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("v")}}
	w.state.pods = []*corev1.Pod{x}
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()

	w.state.pods = []*corev1.Pod{x.DeepCopy()} // read from the store anew
	w.restart(9)
	w.pass()

	w.state.pods = append(w.state.pods, pod("y", "a"))
	w.pass("put a/pod.uid-y", "put a/manifest")
	if m := w.stream.manifest(t, "a"); m.Epoch != 9 || m.Generation != 2 {
		t.Errorf("manifest %+v, want epoch 9, generation 2", m)
	}
}

func TestSecretsAreSealedToTheNode(t *testing.T) {
	w := newWorld(t)
	x := pod("x", "a")
	x.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}},
	}
	w.state.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"password": []byte("hunter2")}}
	w.state.configMaps["m"] = &corev1.ConfigMap{Data: map[string]string{"k": "v"}, BinaryData: map[string][]byte{"b": {0}}}
	w.state.pods = []*corev1.Pod{x}
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()

	a, _ := w.stream.assignment(t, "a", "uid-x")
	if raw := string(w.stream.keys["a/pod.uid-x"].Data); strings.Contains(raw, "hunter2") || strings.Contains(raw, "aHVudGVyMg") {
		t.Error("the secret is readable in the stream")
	}
	clear, err := w.node.Open(a.Secrets["s"]["password"], a.SealedBy)
	if err != nil || string(clear) != "hunter2" {
		t.Errorf("the node opens %q, %v", clear, err)
	}
	if got := fmt.Sprint(a.ConfigMaps); got != fmt.Sprint(map[string]map[string][]byte{"m": {"k": []byte("v"), "b": {0}}}) {
		t.Errorf("config maps %s", got)
	}

	w.state.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"password": []byte("changed")}}
	w.pass("put a/pod.uid-x", "put a/manifest")
	w.state.secrets["s"] = w.state.secrets["s"].DeepCopy()
	w.pass()
}

func TestNodeWithoutSealKeyHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t)
	secretive := pod("x", "b")
	secretive.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}}
	w.state.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("v")}}
	w.state.pods = []*corev1.Pod{secretive, pod("y", "a")}
	err := w.Publisher.pass(t.Context())
	if err == nil || !strings.Contains(err.Error(), "seal key") {
		t.Errorf("error %v, want one about the seal key", err)
	}
	if got := w.stream.writes(); !slices.Contains(got, "put a/manifest") {
		t.Errorf("wrote %q: node a did not get its work", got)
	}
}

func TestNodeThatLeftGetsAnEmptyManifest(t *testing.T) {
	w := newWorld(t)
	w.state.pods = []*corev1.Pod{pod("x", "a")}
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()
	w.state.nodes, w.state.pods = w.state.nodes[1:], nil
	w.pass("put a/manifest", "delete a/pod.uid-x")
	w.restart(8)
	w.pass()
}

func TestFailedWritesAreTriedAgainWithoutAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.state.pods = []*corev1.Pod{pod("x", "a")}
		w.stream.fail = errors.New("no space left")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // Run's word
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		w.stream.mu.Lock()
		w.stream.fail = nil
		w.stream.mu.Unlock()
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if got := w.stream.writes(); !slices.Contains(got, "put a/pod.uid-x") {
			t.Errorf("wrote %q after the store came back", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestNodesThatStayBehindAreAskedToResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		applied, asked := uint64(0), map[string]int{}
		w.Applied = func(node string) (uint64, uint64, bool) {
			mu.Lock()
			defer mu.Unlock()
			return applied, w.services.revision, node == "a"
		}
		w.Resync = func(node string) { asked[node]++ }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // Run's word
		go func() { done <- w.Run(ctx) }()
		time.Sleep(3*lagCheck + time.Second)
		synctest.Wait()
		if asked["a"] == 0 || asked["b"] != 0 {
			t.Errorf("asked %v, want a, which is behind, and not b, which was never heard", asked)
		}
		mu.Lock()
		applied = w.nodes["a"].revision
		mu.Unlock()
		time.Sleep(lagCheck)
		synctest.Wait()
		before := asked["a"]
		time.Sleep(3 * lagCheck)
		synctest.Wait()
		if asked["a"] != before {
			t.Error("asked a node that is up to date")
		}
		cancel()
		<-done
	})
}
