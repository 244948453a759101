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

// Each script in testdata is a service table, a line "---" and the ruleset that it renders to.
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
	var table messaging.ServiceTable
	if err := yaml.UnmarshalStrict([]byte(input), &table); err != nil {
		t.Fatal(err)
	}
	got := describe(Render(table, testSettings))
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
		fmt.Fprintf(&b, "%s proto %d port %d: %s\n", key.Addr, key.Protocol, key.Port, r.Services[key].Chain())
		shares := map[netip.AddrPort]int{}
		for slot, endpoint := range r.Slots {
			if slot.Key == key {
				shares[endpoint]++
			}
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
	for slot, endpoint := range before.Slots {
		if now := after.Slots[slot]; endpoint != gone && now != endpoint {
			t.Errorf("slot %d moved from %s, which is still there, to %s", slot.Index, endpoint, now)
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
	}, testSettings)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Applying Between to a model of the kernel must give the wanted ruleset, for any pair of tables.
func TestBetweenConverges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	have, _ := Render(randomTable(rng), testSettings)
	for range 200 {
		want, err := Render(randomTable(rng), testSettings)
		if err != nil {
			t.Fatal(err)
		}
		change := Between(have, want)
		have = model(t, have, want, change)
		if diff := cmp.Diff(want, have, cmp.Comparer(equalAddr), cmp.Comparer(equalPrefix), cmp.Comparer(equalAddrPort)); diff != "" {
			t.Fatalf("after the change (-want +got):\n%s", diff)
		}
		if again := Between(have, want); !again.Empty() {
			t.Fatalf("second change is not empty: %+v", again)
		}
	}
}

func equalAddr(a, b netip.Addr) bool         { return a == b }
func equalPrefix(a, b netip.Prefix) bool     { return a == b }
func equalAddrPort(a, b netip.AddrPort) bool { return a == b }

// model does what the kernel does: adding what is there, or removing what is not, is an error.
func model(t *testing.T, have, want Ruleset, c Change) Ruleset {
	t.Helper()
	if c.Base {
		t.Fatal("a change of services alone must not replace the table")
	}
	for _, k := range c.RemovedServices {
		delete(have.Services, k)
	}
	for _, s := range c.RemovedSlots {
		delete(have.Slots, s)
	}
	for _, h := range c.RemovedHairpins {
		delete(have.Hairpins, h)
	}
	for _, k := range c.AddedServices {
		if _, ok := have.Services[k]; ok {
			t.Fatalf("service %v added twice", k)
		}
		have.Services[k] = want.Services[k]
	}
	for _, s := range c.AddedSlots {
		if _, ok := have.Slots[s]; ok {
			t.Fatalf("slot %v added twice", s)
		}
		have.Slots[s] = want.Slots[s]
	}
	for _, h := range c.AddedHairpins {
		have.Hairpins[h] = struct{}{}
	}
	return have
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
		r, _ := Render(messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16",
			Services: []messaging.ServicePort{{
				ClusterIP: clusterIP, Protocol: protocol, Port: port, Affinity: affinity, Endpoints: []string{endpoint},
			}},
		}, testSettings)
		for key, pick := range r.Services {
			for i := range pick.Slots {
				if _, ok := r.Slots[Slot{key, i}]; !ok {
					t.Fatalf("%v has no slot %d of %d", key, i, pick.Slots)
				}
			}
		}
	})
}
