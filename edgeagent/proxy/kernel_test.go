package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/network/netns/netnstest"
	"skerry.dev/skerry/messaging"
)

// world is two nodes on one wire. node has pods a (10.42.1.2) and b (10.42.1.3), other has pod c (10.42.2.2). Only node
// has service rules; other routes the service range to it, as an outside machine would.
type world struct {
	t                    *testing.T
	node, other, a, b, c netnstest.NS
	proxy                *Proxy
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, node: netnstest.New(t), other: netnstest.New(t)}
	netnstest.Link(w.node, "eth0", w.other, "eth0")
	w.node.Addr("eth0", "10.41.0.10/24")
	w.other.Addr("eth0", "10.41.0.11/24")
	w.node.Sysctl("net/ipv4/ip_forward", "1")
	w.other.Sysctl("net/ipv4/ip_forward", "1")
	w.a, w.b, w.c = pod(t, w.node, "10.42.1.2"), pod(t, w.node, "10.42.1.3"), pod(t, w.other, "10.42.2.2")
	w.node.Route("10.42.2.0/24", "eth0", "10.41.0.11")
	w.other.Route("10.42.1.0/24", "eth0", "10.41.0.10")
	w.other.Route("10.43.0.0/16", "eth0", "10.41.0.10")
	w.node.Route("10.43.0.0/16", "lo", "")
	proxy, err := New(testSettings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.proxy = proxy
	t.Cleanup(func() { closeProxy(t, proxy) })
	return w
}

// pod hangs a namespace with one address and a TCP and a UDP server on a node.
func pod(t *testing.T, node netnstest.NS, addr string) netnstest.NS {
	t.Helper()
	p := netnstest.New(t)
	link := "p" + strings.ReplaceAll(addr, ".", "")
	netnstest.Link(node, link, p, "eth0")
	node.Addr(link, "169.254.1.1/32")
	node.Route(addr+"/32", link, "")
	p.Addr("eth0", addr+"/32")
	p.Route("169.254.1.1/32", "eth0", "")
	p.Route("default", "eth0", "169.254.1.1")
	p.ServeTCP(addr+":8080", addr)
	p.ServeUDP(addr+":5353", addr)
	return p
}

func (w *world) apply(services ...messaging.ServicePort) {
	w.t.Helper()
	w.node.Do(func() error {
		return w.proxy.Apply(w.t.Context(), messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16", Services: services,
		})
	})
}

func service(ip string, endpoints ...string) messaging.ServicePort {
	s := messaging.ServicePort{Name: "s", Protocol: "TCP", ClusterIP: ip, Port: 80}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, e+":8080")
	}
	return s
}

// ask makes count connections and returns how often each endpoint answered.
func (w *world) ask(from netnstest.NS, address string, count int) map[string]int {
	w.t.Helper()
	answers := map[string]int{}
	for range count {
		text, _, err := from.Ask(address)
		if err != nil {
			w.t.Fatalf("ask %s: %v", address, err)
		}
		answers[text]++
	}
	return answers
}

func TestSpreadIsEvenFromPodsAndFromTheNode(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.1.2", "10.42.1.3", "10.42.2.2"))
	for name, from := range map[string]netnstest.NS{"pod": w.a, "node": w.node} {
		const count = 300
		answers := w.ask(from, "10.43.0.1:80", count)
		for _, endpoint := range []string{"10.42.1.2", "10.42.1.3", "10.42.2.2"} {
			// A fair draw of 300 is outside 100 +- 57 less than once in ten million runs (seven standard deviations).
			if got := answers[endpoint]; got < 43 || got > 157 {
				t.Errorf("from the %s: %d of %d connections reached %s: %v", name, got, count, endpoint, answers)
			}
		}
	}
}

func TestPodsKeepTheirAddress(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.2.2"))
	_, client, err := w.a.Ask("10.43.0.1:80")
	if err != nil || client != "10.42.1.2" {
		t.Errorf("server saw client %q, err %v; want the pod's own address", client, err)
	}
}

func TestPodReachesItselfThroughItsService(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.1.2"))
	text, client, err := w.a.Ask("10.43.0.1:80")
	if err != nil || text != "10.42.1.2" || client != "10.41.0.10" {
		t.Errorf("answer %q to client %q, err %v", text, client, err)
	}
}

// The client is outside the cluster and the endpoint on its own machine: without masquerading the answer would go
// straight back and never match.
func TestOutsideClientReachesEndpointElsewhere(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.2.2"), service("10.43.0.2", "10.42.1.2"))
	if _, client, err := w.other.Ask("10.43.0.1:80"); err != nil || client != "10.41.0.10" {
		t.Errorf("endpoint elsewhere: client %q, err %v", client, err)
	}
	if _, client, err := w.other.Ask("10.43.0.2:80"); err != nil || client != "10.41.0.11" {
		t.Errorf("endpoint on the asked node: client %q, err %v; want the client's own address", client, err)
	}
}

func TestPodsToTheWorldAreMasqueraded(t *testing.T) {
	w := newWorld(t)
	w.apply()
	w.other.ServeTCP("10.41.0.11:9000", "world")
	if _, client, err := w.a.Ask("10.41.0.11:9000"); err != nil || client != "10.41.0.10" {
		t.Errorf("client %q, err %v; want the node's address", client, err)
	}
	if _, client, err := w.a.Ask("10.42.2.2:8080"); err != nil || client != "10.42.1.2" {
		t.Errorf("pod to pod: client %q, err %v; want the pod's address", client, err)
	}
}

func TestNoEndpointsIsRefused(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1"))
	for name, from := range map[string]netnstest.NS{"pod": w.a, "node": w.node, "outside": w.other} {
		for _, address := range []string{"10.43.0.1:80", "10.43.0.1:81", "10.43.200.200:80"} {
			if _, _, err := from.Ask(address); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s asks %s: %v, want a refused connection", name, address, err)
			}
		}
	}
}

func TestRemovedEndpointGetsNoNewConnections(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.1.2", "10.42.1.3", "10.42.2.2"))
	w.ask(w.a, "10.43.0.1:80", 20)
	w.apply(service("10.43.0.1", "10.42.1.2", "10.42.2.2"))
	if answers := w.ask(w.a, "10.43.0.1:80", 100); answers["10.42.1.3"] > 0 || len(answers) != 2 {
		t.Errorf("answers after the removal: %v", answers)
	}
	w.apply(service("10.43.0.1"))
	if _, _, err := w.a.Ask("10.43.0.1:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the last endpoint went: %v", err)
	}
	w.apply(service("10.43.0.1", "10.42.1.3"))
	if answers := w.ask(w.a, "10.43.0.1:80", 5); answers["10.42.1.3"] != 5 {
		t.Errorf("after an endpoint came back: %v", answers)
	}
}

func TestEstablishedConnectionsSurviveEveryChange(t *testing.T) {
	w := newWorld(t)
	var listener net.Listener
	w.c.Do(func() (err error) {
		listener, err = net.Listen("tcp4", "10.42.2.2:7")
		return err
	})
	defer func() { _ = listener.Close() }()
	echo := service("10.43.0.1")
	echo.Endpoints = []string{"10.42.2.2:7"}
	w.apply(echo)
	client, err := netns.Dial(net.Dialer{Timeout: 5 * time.Second}, w.a.Path, "tcp4", "10.43.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	for name, change := range map[string]func(){
		"incremental": func() { w.apply(service("10.43.0.1", "10.42.1.2")) },
		"whole":       func() { w.proxy.applied = nil; w.apply(echo) },
		"none":        func() {},
	} {
		change()
		if err := exchange(client, server); err != nil {
			t.Errorf("after the %s change: %v", name, err)
		}
	}
}

func exchange(from, to net.Conn) error {
	deadline := time.Now().Add(5 * time.Second)
	if err := errors.Join(from.SetDeadline(deadline), to.SetDeadline(deadline)); err != nil {
		return err
	}
	if _, err := from.Write([]byte("x")); err != nil {
		return err
	}
	_, err := to.Read(make([]byte, 1))
	return err
}

func TestAffinityKeepsAClientOnOneEndpoint(t *testing.T) {
	w := newWorld(t)
	s := service("10.43.0.1", "10.42.1.2", "10.42.1.3", "10.42.2.2")
	s.Affinity = true
	w.apply(s)
	for name, from := range map[string]netnstest.NS{"a": w.a, "b": w.b, "node": w.node} {
		if answers := w.ask(from, "10.43.0.1:80", 20); len(answers) != 1 {
			t.Errorf("client %s was answered by %v", name, answers)
		}
	}
}

func TestUDPFlowLeavesAVanishedEndpoint(t *testing.T) {
	w := newWorld(t)
	s := messaging.ServicePort{Name: "dns", Protocol: "UDP", ClusterIP: "10.43.0.1", Port: 53}
	s.Endpoints = []string{"10.42.1.3:5353"}
	w.apply(s)
	client, err := netns.Dial(net.Dialer{Timeout: 5 * time.Second}, w.a.Path, "udp4", "10.43.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if got := query(t, client); got != "10.42.1.3" {
		t.Fatalf("first answer from %q", got)
	}
	s.Endpoints = []string{"10.42.2.2:5353"}
	w.apply(s)
	if got := query(t, client); got != "10.42.2.2" {
		t.Errorf("answer after the change from %q, want the new endpoint on the same socket", got)
	}
}

func query(t *testing.T, client net.Conn) string {
	t.Helper()
	if err := client.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64)
	n, err := client.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestOthersTablesAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	foreign := &nftables.Table{Name: "somebody", Family: nftables.TableFamilyIPv4}
	w.node.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.AddTable(foreign)
		return conn.Flush()
	})
	w.apply(service("10.43.0.1", "10.42.1.2"))
	w.node.Do(func() error { return w.proxy.Remove(w.t.Context()) })
	w.node.Do(func() error { return w.proxy.Remove(w.t.Context()) })
	if got := w.tables(); !slices.Equal(got, []string{"somebody"}) {
		t.Errorf("tables after Remove: %v", got)
	}
}

func (w *world) tables() []string {
	w.t.Helper()
	var names []string
	w.node.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		for _, table := range tables {
			names = append(names, table.Name)
		}
		return err
	})
	return names
}

func TestRulesComeBackWhenSomebodyFlushesThem(t *testing.T) {
	w := newWorld(t)
	w.apply(service("10.43.0.1", "10.42.1.2"))
	flush := func() {
		w.node.Do(func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			conn.FlushRuleset()
			return conn.Flush()
		})
	}
	flush()
	w.node.Do(func() error { return w.proxy.Check(w.t.Context()) })
	w.ask(w.b, "10.43.0.1:80", 1)
	flush() // and an incremental change must notice, too
	w.apply(service("10.43.0.1", "10.42.1.2"), service("10.43.0.2", "10.42.1.3"))
	w.ask(w.b, "10.43.0.1:80", 1)
	w.ask(w.b, "10.43.0.2:80", 1)
}

func TestBadEntriesDoNotStopGoodOnes(t *testing.T) {
	w := newWorld(t)
	bad := service("8.8.8.8", "10.42.1.2")
	var err error
	w.node.Do(func() error {
		err = w.proxy.Apply(w.t.Context(), messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16",
			Services: []messaging.ServicePort{bad, service("10.43.0.1", "10.42.1.2")},
		})
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "8.8.8.8") {
		t.Errorf("error %v does not name the bad entry", err)
	}
	w.ask(w.b, "10.43.0.1:80", 1)
}

// What an operator sees: nft must be able to print the rules.
func TestNftPrintsTheRules(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft: apt install nftables")
	}
	w := newWorld(t)
	s := service("10.43.0.2", "10.42.1.2")
	s.Affinity = true
	w.apply(service("10.43.0.1", "10.42.1.2", "10.42.1.3"), s)
	var out []byte
	w.node.Do(func() (err error) {
		out, err = exec.CommandContext(w.t.Context(), nft, "list", "table", "ip", TableName).CombinedOutput()
		return err
	})
	for _, want := range []string{
		"dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @slots",
		"10.43.0.1 . tcp . 80 : goto pick-2",
		"10.43.0.1 . tcp . 80 . 0x00000000 : 10.42.1.2 . 8080",
		"jhash ip saddr mod 256",
		"reject with tcp reset",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nft does not print %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// BenchmarkReplace10000 swaps all of 10,000 endpoints of 625 services; BenchmarkNftReplace10000 does the same to the same
// table with nft -f, as a peer.
func BenchmarkReplace10000(b *testing.B) {
	node, proxy := netnstest.New(b), newProxy(b)
	tables := []messaging.ServiceTable{bigTable(2), bigTable(3)}
	node.Do(func() error { return proxy.Apply(b.Context(), tables[1]) })
	for i := 0; b.Loop(); i++ {
		node.Do(func() error { return proxy.Apply(b.Context(), tables[i%2]) })
	}
}

func BenchmarkChangeOneOf10000(b *testing.B) {
	node, proxy := netnstest.New(b), newProxy(b)
	table := bigTable(2)
	node.Do(func() error { return proxy.Apply(b.Context(), table) })
	for i := 0; b.Loop(); i++ {
		table.Services[7].Endpoints = bigTable(2 + i%2).Services[7].Endpoints
		node.Do(func() error { return proxy.Apply(b.Context(), table) })
	}
}

func BenchmarkNftReplace10000(b *testing.B) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		b.Skip("needs nft: apt install nftables")
	}
	node, proxy := netnstest.New(b), newProxy(b)
	tables := []messaging.ServiceTable{bigTable(2), bigTable(3)}
	node.Do(func() error { return proxy.Apply(b.Context(), tables[1]) })
	scripts := []string{nftScript(b, tables[0]), nftScript(b, tables[1])}
	for i := 0; b.Loop(); i++ {
		node.Do(func() error {
			command := exec.CommandContext(b.Context(), nft, "-f", "-")
			command.Stdin = strings.NewReader(scripts[i%2])
			out, err := command.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %.300s", err, out)
			}
			return nil
		})
	}
}

func newProxy(b *testing.B) *Proxy {
	b.Helper()
	proxy, err := New(testSettings, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeProxy(b, proxy) })
	return proxy
}

func closeProxy(t testing.TB, proxy *Proxy) {
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}

func bigTable(third int) messaging.ServiceTable {
	table := messaging.ServiceTable{ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16"}
	for s := range 625 {
		port := messaging.ServicePort{
			Name: fmt.Sprint(s), Protocol: "TCP", ClusterIP: fmt.Sprintf("10.43.%d.%d", s/250, s%250+1), Port: 80,
		}
		for e := range 16 {
			port.Endpoints = append(port.Endpoints, fmt.Sprintf("10.42.%d.%d:80", third, (s*16+e)%250+1))
		}
		table.Services = append(table.Services, port)
	}
	return table
}

func nftScript(b *testing.B, table messaging.ServiceTable) string {
	b.Helper()
	r, err := Render(table, nil, testSettings)
	if err != nil {
		b.Fatal(err)
	}
	var script strings.Builder
	fmt.Fprintf(&script, "flush map ip %s slots\nadd element ip %s slots {\n", TableName, TableName)
	for key, service := range r.Services {
		for i, endpoint := range service.Slots {
			fmt.Fprintf(&script, "%s . tcp . %d . %d : %s . %d,\n", key.Addr, key.Port, i, endpoint.Addr(), endpoint.Port())
		}
	}
	script.WriteString("}\n")
	return script.String()
}

func TestNewRefusesBadSettings(t *testing.T) {
	for name, s := range map[string]Settings{
		"no address":   {},
		"ipv6 address": {NodeAddress: netip.MustParseAddr("fd00::1")},
		"ipv6 pods":    {NodeAddress: netip.MustParseAddr("10.0.0.1"), PodCIDR: netip.MustParsePrefix("fd00::/64")},
	} {
		if _, err := New(s, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestApplyStopsWhenAsked(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.node.Do(func() error {
		err := w.proxy.Apply(ctx, messaging.ServiceTable{ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16"})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Apply with a cancelled context: %v", err)
		}
		return nil
	})
}
