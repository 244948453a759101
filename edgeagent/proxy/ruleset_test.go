package proxy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/messaging"
)

var update = flag.Bool("update", false, "rewrite the expected part of the scripts")

var testSettings = Settings{
	NodeAddress: netip.MustParseAddr("10.41.0.10"), PodCIDR: netip.MustParsePrefix("10.42.1.0/24"), Masquerade: true,
}

// Each script in testdata is a service table with the ports of the node's pods, a line "---" and the ruleset that it renders to.
func TestRenderScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	input, want, _ := strings.Cut(string(script), "---\n")
	var given struct {
		messaging.ServiceTable
		HostPorts []HostPort `json:"hostPorts"`
	}
	if err := yaml.UnmarshalStrict([]byte(input), &given); err != nil {
		t.Fatal(err)
	}
	got := describe(Render(given.ServiceTable, given.HostPorts, testSettings))
	if *update {
		if err := os.WriteFile(path, []byte(input+"---\n"+got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rendered (-want +got):\n%s", diff)
	}
}

func describe(r Ruleset, err error) string {
	var b strings.Builder
	for _, key := range sortedKeys(r.Services, compareKeys) {
		fmt.Fprintf(&b, "%s proto %d port %d: %s\n", key.Addr, key.Protocol, key.Port, r.Services[key].Pick().Chain())
		shares := map[netip.AddrPort]int{}
		for _, endpoint := range r.Services[key].Slots {
			shares[endpoint]++
		}
		for _, endpoint := range sortedKeys(shares, netip.AddrPort.Compare) {
			fmt.Fprintf(&b, "  %s in %d\n", endpoint, shares[endpoint])
		}
	}
	for _, addr := range sortedKeys(r.Hairpins, netip.Addr.Compare) {
		fmt.Fprintf(&b, "hairpin %s\n", addr)
	}
	for _, pick := range r.Picks() {
		fmt.Fprintf(&b, "chain %s\n", pick.Chain())
	}
	if err != nil {
		fmt.Fprintf(&b, "problem: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nproblem: "))
	}
	return b.String()
}

func TestRenderKeepsClientsWhenAnEndpointGoes(t *testing.T) {
	before := sticky(t, 10)
	after := sticky(t, 9)
	gone := netip.MustParseAddrPort("10.42.1.10:80")
	key := Key{Addr: netip.MustParseAddr("10.43.0.9"), Protocol: 6, Port: 80}
	for i, endpoint := range before.Services[key].Slots {
		if now := after.Services[key].Slots[i]; endpoint != gone && now != endpoint {
			t.Errorf("slot %d moved from %s, which is still there, to %s", i, endpoint, now)
		}
	}
}

func sticky(t *testing.T, endpoints int) Ruleset {
	t.Helper()
	port := messaging.ServicePort{Name: "s", Protocol: "TCP", ClusterIP: "10.43.0.9", Port: 80, Affinity: true}
	for i := 1; i <= endpoints; i++ {
		port.Endpoints = append(port.Endpoints, fmt.Sprintf("10.42.1.%d:80", i))
	}
	r, err := Render(messaging.ServiceTable{
		ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16", Services: []messaging.ServicePort{port},
	}, nil, testSettings)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The kubernetes Service leads to this node's own way to the API, whatever its endpoints are, and has no node port.
func TestRenderLeadsToTheAPI(t *testing.T) {
	settings := testSettings
	settings.API, settings.PodLinks = netip.MustParseAddrPort("169.254.1.2:6443"), "sky"
	port := messaging.ServicePort{
		Namespace: "default", Name: "kubernetes", Protocol: "TCP", ClusterIP: "10.43.0.1", Port: 443, NodePort: 30443,
		Endpoints: []string{"10.43.0.1:443"},
	}
	other := port
	other.Namespace, other.ClusterIP, other.NodePort, other.Endpoints = "shop", "10.43.0.9", 0, []string{"10.42.1.2:80"}
	r, err := Render(messaging.ServiceTable{
		ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16", Services: []messaging.ServicePort{port, other},
	}, nil, settings)
	want := "10.43.0.1 proto 6 port 443: pick-1\n  169.254.1.2:6443 in 1\n10.43.0.9 proto 6 port 443: pick-1\n  10.42.1.2:80 in 1\n" +
		"hairpin 10.42.1.2\nchain pick-1\n"
	if diff := cmp.Diff(want, describe(r, err)); diff != "" {
		t.Errorf("rendered (-want +got):\n%s", diff)
	}
}

// Applying Between to a model of the kernel must give the wanted ruleset, for any pair of tables.
func TestBetweenConverges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	kernel := model{services: map[Key]Pick{}, slots: map[place]netip.AddrPort{}, picks: map[Pick]struct{}{}}
	have := Ruleset{Settings: testSettings}
	for round := range 200 {
		want, err := Render(randomTable(rng), nil, testSettings)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			have.ServiceCIDR, have.ClusterPodCIDR = want.ServiceCIDR, want.ClusterPodCIDR
		}
		kernel.take(t, want, Between(have, want))
		kernel.check(t, want)
		if again := Between(want, want); !again.Empty() {
			t.Fatalf("the change to itself is not empty: %+v", again)
		}
		have = want
	}
}

// model does what the kernel does: adding what is there, or removing what is not, is an error.
type model struct {
	services map[Key]Pick
	slots    map[place]netip.AddrPort
	picks    map[Pick]struct{}
}

type place struct {
	Key
	index uint32
}

func (m model) take(t *testing.T, want Ruleset, c Change) {
	t.Helper()
	if c.Base {
		t.Fatal("a change of services alone must not replace the table")
	}
	for _, p := range c.AddedPicks {
		add(t, m.picks, p, struct{}{})
	}
	for _, k := range c.RemovedServices {
		remove(t, m.services, k)
	}
	for _, s := range c.RemovedSlots {
		remove(t, m.slots, place{s.Key, s.Index})
	}
	for _, s := range c.AddedSlots {
		add(t, m.slots, place{s.Key, s.Index}, s.Endpoint)
	}
	for _, k := range c.AddedServices {
		add(t, m.services, k, want.Services[k].Pick())
	}
	for _, p := range c.RemovedPicks {
		remove(t, m.picks, p)
	}
}

func (m model) check(t *testing.T, want Ruleset) {
	t.Helper()
	slots := 0
	for key, service := range want.Services {
		if m.services[key] != service.Pick() {
			t.Errorf("service %v picks by %v, want %v", key, m.services[key], service.Pick())
		}
		if _, ok := m.picks[service.Pick()]; !ok {
			t.Errorf("chain %s is missing", service.Pick().Chain())
		}
		for i, endpoint := range service.Slots {
			slots++
			if got := m.slots[place{key, uint32(i)}]; got != endpoint {
				t.Errorf("service %v slot %d is %s, want %s", key, i, got, endpoint)
			}
		}
	}
	if len(m.services) != len(want.Services) || len(m.slots) != slots || len(m.picks) != len(want.Picks()) {
		t.Errorf("%d services, %d slots, %d chains; want %d, %d, %d",
			len(m.services), len(m.slots), len(m.picks), len(want.Services), slots, len(want.Picks()))
	}
}

func add[K comparable, V any](t *testing.T, m map[K]V, key K, value V) {
	t.Helper()
	if _, ok := m[key]; ok {
		t.Fatalf("%v added twice", key)
	}
	m[key] = value
}

func remove[K comparable, V any](t *testing.T, m map[K]V, key K) {
	t.Helper()
	if _, ok := m[key]; !ok {
		t.Fatalf("%v removed, but it is not there", key)
	}
	delete(m, key)
}

func randomTable(rng *rand.Rand) messaging.ServiceTable {
	table := messaging.ServiceTable{ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16"}
	for s := range 6 {
		if rng.IntN(3) == 0 {
			continue
		}
		port := messaging.ServicePort{
			Name: fmt.Sprint("s", s), ClusterIP: fmt.Sprintf("10.43.0.%d", s+1), Port: 80,
			Protocol: []string{"TCP", "UDP"}[rng.IntN(2)], Affinity: rng.IntN(4) == 0,
		}
		for range rng.IntN(5) {
			port.Endpoints = append(port.Endpoints, fmt.Sprintf("10.42.%d.%d:80", rng.IntN(3), rng.IntN(4)+1))
		}
		table.Services = append(table.Services, port)
	}
	return table
}

func FuzzRender(f *testing.F) {
	f.Add("10.43.0.1", "TCP", "10.42.1.2:80", uint16(80), true)
	f.Add("", "SCTP", "10.43.0.1:1", uint16(0), false)
	f.Fuzz(func(t *testing.T, clusterIP, protocol, endpoint string, port uint16, affinity bool) {
		pod, _ := netip.ParseAddrPort(endpoint)
		r, _ := Render(messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16",
			Services: []messaging.ServicePort{{
				ClusterIP: clusterIP, Protocol: protocol, Port: port, Affinity: affinity, Endpoints: []string{endpoint},
				External: []string{clusterIP}, Own: affinity,
			}},
		}, []HostPort{{Protocol: protocol, Port: port, Pod: pod}}, testSettings)
		for key, service := range r.Services {
			if len(service.Slots) == 0 {
				t.Fatalf("%v has no slot: the kernel would refuse a random number below 0", key)
			}
		}
	})
}
