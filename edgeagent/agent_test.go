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
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/volume"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/natstest"
)

// cluster is a coordinator played by the test, on a real server.
type cluster struct {
	t      *testing.T
	net    *natstest.Net
	nc     *nats.Conn
	store  *assign.Store
	signer *messaging.Signer
	token  messaging.JoinToken

	mu        sync.Mutex
	requests  []messaging.RegisterRequest
	statuses  map[string]corev1.PodStatus
	gone      map[string]bool
	node      corev1.NodeStatus
	labels    map[string]string
	inventory api.Inventory
	epoch     uint64
}

func newCluster(t *testing.T, n *natstest.Net) *cluster {
	t.Helper()
	seed, err := messaging.NewSeed()
	must(t, err)
	signer, err := messaging.NewSigner(seed)
	must(t, err)
	token, err := messaging.NewJoinToken("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "t")
	must(t, err)
	js := n.JetStream()
	store, err := assign.Open(t.Context(), js, assign.Options{Storage: n.Storage})
	must(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: messaging.StreamUp, Subjects: []string{messaging.UpAll}, Storage: n.Storage,
	})
	must(t, err)
	c := &cluster{
		t: t, net: n, nc: n.Coordinator(), store: store, signer: signer, token: token,
		statuses: map[string]corev1.PodStatus{}, gone: map[string]bool{},
	}
	for subject, h := range map[string]nats.MsgHandler{messaging.NodeAPIAll("register"): c.register, messaging.UpAll: c.report} {
		_, err := c.nc.Subscribe(subject, h)
		must(t, err)
	}
	must(t, c.nc.Flush())
	return c
}

func (c *cluster) register(m *nats.Msg) {
	var r messaging.RegisterRequest
	key, err := c.signer.PublicKey()
	err = errors.Join(err, json.Unmarshal(m.Data, &r))
	c.mu.Lock()
	c.requests = append(c.requests, r)
	c.mu.Unlock()
	data, err2 := json.Marshal(messaging.RegisterReply{
		Cluster: "c1", Epoch: 1, SigningKey: key, PodCIDR: "10.42.7.0/24", Heartbeat: time.Second,
	})
	if err := errors.Join(err, err2, m.Respond(data)); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) report(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	switch strings.Split(m.Subject, ".")[4] {
	case "pod":
		var r messaging.PodReport
		var s corev1.PodStatus
		err = errors.Join(json.Unmarshal(m.Data, &r), s.Unmarshal(r.Status))
		c.statuses[r.UID], c.gone[r.UID] = s, r.Gone
	case "node":
		var r messaging.NodeReport
		err = json.Unmarshal(m.Data, &r)
		c.node, c.labels = corev1.NodeStatus{}, r.Labels
		err = errors.Join(err, c.node.Unmarshal(r.Status))
	case "inventory":
		var r messaging.InventoryReport
		err = json.Unmarshal(m.Data, &r)
		err = errors.Join(err, json.Unmarshal(r.Inventory, &c.inventory))
	}
	if err != nil {
		c.t.Errorf("report on %s: %v", m.Subject, err)
	}
}

// assign gives the node a complete set; secrets are sealed to the node.
func (c *cluster) assign(pods ...*corev1.Pod) {
	c.t.Helper()
	c.epoch++
	manifest := messaging.Manifest{Cluster: "c1", Epoch: c.epoch}
	for _, p := range pods {
		raw, err := p.Marshal()
		must(c.t, err)
		a := messaging.Assignment{Pod: raw}
		a.Secrets, a.SealedBy = c.seal("t0p secret")
		revision := c.put("n1", messaging.PodPart(string(p.UID)), a)
		manifest.Pods = append(manifest.Pods, messaging.PodRef{UID: string(p.UID), Revision: revision})
	}
	c.put("n1", messaging.ManifestPart, manifest)
}

func (c *cluster) seal(text string) (map[string]map[string][]byte, string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) == 0 {
		return nil, ""
	}
	pair, err := nkeys.CreateCurveKeys()
	must(c.t, err)
	public, err := pair.PublicKey()
	must(c.t, err)
	sealed, err := pair.Seal([]byte(text), c.requests[0].SealKey)
	must(c.t, err)
	return map[string]map[string][]byte{"keys": {"token": sealed}}, public
}

func (c *cluster) put(node, part string, v any) uint64 {
	c.t.Helper()
	data, err := json.Marshal(v)
	must(c.t, err)
	signature, err := c.signer.Sign(messaging.AssignKey(node, part), data)
	must(c.t, err)
	revision, err := c.store.Put(c.t.Context(), node, part, data, signature)
	must(c.t, err)
	return revision
}

func (c *cluster) wait(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// told is what an agent told its neighbours.
type told struct {
	mu      sync.Mutex
	podCIDR netip.Prefix
	tables  int
}

func (f *told) Apply(context.Context, messaging.ServiceTable) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tables++
	return nil
}

func (f *told) Check(context.Context) error { return nil }

func (f *told) setPodCIDR(_ context.Context, p netip.Prefix) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.podCIDR = p
	return nil
}

func (f *told) read() (podCIDR string, tables int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.podCIDR.String(), f.tables
}

// parts are the world's fakes as an agent's neighbours.
func (w *world) parts(f *told) *Parts {
	inventory := api.Inventory{
		Kernel: api.Kernel{Version: "6.1", Architecture: "arm64"}, CPU: api.CPU{Threads: 4}, Memory: api.Memory{TotalBytes: 4 << 30},
	}
	return &Parts{
		Keeper: w.keeper, Sandboxes: w.sandboxes, Images: w.images, Volumes: volume.New(filepath.Join(w.dir, "pods"), filepath.Join(w.dir, "persistent"), netip.Addr{}),
		Tables: f, SetPodCIDR: f.setPodCIDR,
		Watch: func(ctx context.Context, _ *slog.Logger, changed func(api.Inventory)) error {
			changed(inventory)
			<-ctx.Done()
			return ctx.Err()
		},
	}
}

// TestAgent takes a whole agent through its life on a real server: join, work, a cut link, a restart without the token.
func TestAgent(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		c := newCluster(t, n)
		w := &world{
			t: t, dir: t.TempDir(), keeper: newFakeKeeper(), sandboxes: &fakeSandboxes{uids: map[string]netip.Addr{}},
			images: &fakeImages{rootfs: t.TempDir(), mounted: map[string]bool{}, missing: map[string]bool{}},
		}
		neighbours := &told{}
		start := func(token string) (stop func()) {
			t.Helper()
			config := DefaultConfig()
			config.Name, config.StateDir, config.Servers, config.Address = "n1", w.dir, []string{"nats://unused:1"}, "10.41.0.11"
			config.JoinToken = token
			must(t, config.Complete())
			a, err := New(t.Context(), Options{
				Config: config, Version: "v1", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
				Parts: w.parts(neighbours), InProcess: n.NodeOptions("n1").InProcess,
			})
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- a.Run(ctx) }()
			return func() {
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("agent ended with %v", err)
				}
			}
		}
		stop := start(c.token.String())
		c.wait("registration", func() bool { return len(c.requests) == 1 })
		c.wait("node status", func() bool { return len(c.node.Conditions) > 0 && c.inventory.CPU.Threads == 4 })
		checkNode(t, c)
		if c.requests[0].Address != "10.41.0.11" || c.requests[0].Version != "v1" || !strings.Contains(fmt.Sprint(neighbours.read()), "10.42.7.0/24") {
			t.Errorf("registered with %+v, neighbours told %v", c.requests[0], fmt.Sprint(neighbours.read()))
		}

		p := aPod(t, "u1", `containers: [{name: app, image: web, env: [{name: T, valueFrom: {secretKeyRef: {name: keys, key: token}}}]}]`)
		c.assign(p)
		c.wait("running", func() bool { s := c.statuses["u1"]; return podReady(&s) })
		if env := w.keeper.spec("u1-app-0").Env; !slices.Contains(env, "T=t0p secret") {
			t.Errorf("environment %q", env)
		}
		secretOnDisk(t, w.dir)
		c.put(messaging.Broadcast, messaging.ServicesPart, messaging.ServiceTable{Epoch: 1, Generation: 1})
		c.wait("service table", func() bool { _, n := neighbours.read(); return n == 1 })

		n.Cut("n1")
		time.Sleep(2 * time.Minute)
		w.keeper.exit("u1-app-0", 1)
		time.Sleep(time.Minute)
		w.check("restarted while cut off", w.keeper.running(), []string{"u1-app-1"})
		n.Heal("n1")
		c.wait("restart reported", func() bool {
			s := c.statuses["u1"]
			return len(s.ContainerStatuses) == 1 && s.ContainerStatuses[0].RestartCount == 1
		})

		stop()
		w.keeper.heard()
		neighbours = &told{}
		stop = start("")
		c.wait("registered again", func() bool { return len(c.requests) > 2 })
		time.Sleep(time.Minute)
		w.check("touched", w.keeper.heard(), "")
		_, tables := neighbours.read()
		w.check("services in force from the checkpoint", tables, 1)
		c.assign()
		c.wait("gone", func() bool { return c.gone["u1"] })
		stop()
	})
}

func checkNode(t *testing.T, c *cluster) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := c.node.Allocatable.Cpu().MilliValue(); got != 3900 {
		t.Errorf("allocatable cpu %d, want 3900", got)
	}
	if got := c.node.Allocatable.Memory().Value(); got != 4<<30-228<<20 { // 128 reserved, 100 for the threshold
		t.Errorf("allocatable memory %d", got)
	}
	for _, cond := range c.node.Conditions {
		want := corev1.ConditionFalse
		if cond.Type == corev1.NodeReady {
			want = corev1.ConditionTrue
		}
		if cond.Status != want {
			t.Errorf("condition %s is %s: %s", cond.Type, cond.Status, cond.Message)
		}
	}
	if c.labels[corev1.LabelArchStable] != "arm64" || c.labels[corev1.LabelHostname] != "n1" {
		t.Errorf("labels %v", c.labels)
	}
}

// secretOnDisk: no file of the node holds an opened secret.
func secretOnDisk(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), "t0p secret") {
			t.Errorf("%s holds the secret", path)
		}
		return err
	}))
}

func TestIdentity(t *testing.T) {
	token, err := messaging.NewJoinToken("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "t")
	must(t, err)
	other, err := messaging.NewJoinToken("lFTWBGBXjPVtNaKOWkfFAkAzlHaJcVH9Iwl2xQRW9mY", "t")
	must(t, err)
	address := netip.MustParseAddr("10.0.0.1")
	store, _, err := checkpoint.Open(t.TempDir())
	must(t, err)
	fresh, _, err := identify(checkpoint.Identity{}, Config{Name: "n1", JoinToken: token.String()}, address, store)
	must(t, err)
	enrolled := fresh
	enrolled.Enrolled = true
	for name, c := range map[string]struct {
		held   checkpoint.Identity
		config Config
		want   string
	}{
		"new node without a token":          {checkpoint.Identity{}, Config{Name: "n1"}, "skerry token create"},
		"cut token":                         {checkpoint.Identity{}, Config{Name: "n1", JoinToken: "skerry1.x"}, "is it cut off?"},
		"not enrolled, token gone":          {fresh, Config{Name: "n1"}, "skerry token create"},
		"another name":                      {enrolled, Config{Name: "n2"}, `belongs to node "n1"`},
		"token of another cluster":          {enrolled, Config{Name: "n1", JoinToken: other.String()}, "for another cluster"},
		"enrolled, no token":                {enrolled, Config{Name: "n1"}, ""},
		"enrolled, the used token is there": {enrolled, Config{Name: "n1", JoinToken: token.String()}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id, _, err := identify(c.held, c.config, address, store)
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err == nil && string(id.KeySeed) != string(c.held.KeySeed) {
				t.Error("the key changed")
			}
		})
	}
}

func TestOwnAddress(t *testing.T) {
	ctx := t.Context()
	got, err := ownAddress(ctx, Config{Servers: []string{"nats://127.0.0.1:4222"}}, checkpoint.Identity{})
	if err != nil || got.String() != "127.0.0.1" {
		t.Errorf("towards loopback: %s, %v", got, err)
	}
	got, err = ownAddress(ctx, Config{Servers: []string{"nats://no.such.host.invalid:4222"}}, checkpoint.Identity{Address: "10.0.0.9"})
	if err != nil || got.String() != "10.0.0.9" {
		t.Errorf("cut off: %s, %v; want the address of before", got, err)
	}
}

func TestContact(t *testing.T) {
	c := newContact(t.TempDir())
	if got := c.lost(time.Hour); got != 0 {
		t.Errorf("no contact in this boot: lost at %s, want 0", got)
	}
	must(t, c.note(true, 0))
	if got := c.lost(time.Hour); got != time.Hour {
		t.Errorf("agent died with the link up: lost at %s, want now", got)
	}
	must(t, c.note(false, time.Minute))
	if got := c.lost(time.Hour); got != time.Minute {
		t.Errorf("lost at %s, want when it was noted", got)
	}
}

func TestBootID(t *testing.T) {
	dir := t.TempDir()
	a, err := bootID(dir)
	must(t, err)
	b, err := bootID(dir)
	must(t, err)
	c, err := bootID(t.TempDir())
	must(t, err)
	if a != b || a == c || len(a) != 32 {
		t.Errorf("boot ids %s, %s, %s", a, b, c)
	}
}
