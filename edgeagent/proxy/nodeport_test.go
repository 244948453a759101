package proxy

import (
	"net/netip"
	"testing"

	"skerry.dev/skerry/edgeagent/network/netns/netnstest"
	"skerry.dev/skerry/messaging"
)

func nodePort(ip string, number uint16, local bool, endpoints ...string) messaging.ServicePort {
	s := service(ip, endpoints...)
	s.NodePort, s.Local = number, local
	return s
}

func TestNodePort(t *testing.T) {
	w := newWorld(t)
	w.apply(nodePort("10.43.0.1", 30001, false, "10.42.1.2"), nodePort("10.43.0.2", 30002, false, "10.42.2.2"))
	for _, c := range []struct {
		name           string
		from           netnstest.NS
		port           string
		answer, client string
	}{
		{"outside, endpoint here", w.other, "30001", "10.42.1.2", "10.41.0.11"},
		{"outside, endpoint elsewhere", w.other, "30002", "10.42.2.2", "10.41.0.10"},
		{"a pod, endpoint here", w.b, "30001", "10.42.1.2", "10.42.1.3"},
		{"a pod, endpoint elsewhere", w.b, "30002", "10.42.2.2", "10.41.0.10"},
		{"a pod elsewhere, endpoint beside it", w.c, "30002", "10.42.2.2", "10.41.0.10"},
		{"the endpoint itself", w.a, "30001", "10.42.1.2", "10.41.0.10"},
		{"the node", w.node, "30002", "10.42.2.2", "10.41.0.10"},
	} {
		if text, client, err := c.from.Ask("10.41.0.10:" + c.port); err != nil || text != c.answer || client != c.client {
			t.Errorf("%s: answer %q to client %q, err %v; want %q to %q", c.name, text, client, err, c.answer, c.client)
		}
	}
	if text, _, err := w.node.Ask("10.43.0.2:80"); err != nil || text != "10.42.2.2" {
		t.Errorf("cluster address: %q, %v", text, err)
	}
}

func TestLocalNodePort(t *testing.T) {
	w := newWorld(t)
	w.apply(nodePort("10.43.0.1", 30001, true, "10.42.1.2", "10.42.2.2"), nodePort("10.43.0.2", 30002, true, "10.42.2.2"))
	if answers := w.ask(w.other, "10.41.0.10:30001", 20); answers["10.42.1.2"] != 20 {
		t.Errorf("answers %v, want those of this node's endpoint", answers)
	}
	if text, _, err := w.other.Ask("10.41.0.10:30002"); err == nil {
		t.Errorf("%s answered, though it is on another node", text)
	}
	w.apply(nodePort("10.43.0.1", 30003, true, "10.42.1.2"))
	if text, _, err := w.other.Ask("10.41.0.10:30001"); err == nil {
		t.Errorf("%s answers on a port that was given back", text)
	}
	w.ask(w.other, "10.41.0.10:30003", 1)
}

// TestHostPort: a port of the node leads to its pod, from everywhere and from the pod itself, until it is given back; other
// changes leave it alone.
func TestHostPort(t *testing.T) {
	w := newWorld(t)
	set := func(ports ...HostPort) {
		w.node.Do(func() error { return w.proxy.SetHostPorts(t.Context(), ports) })
	}
	set(HostPort{Protocol: "TCP", Port: 8000, Pod: netip.MustParseAddrPort("10.42.1.2:8080")}) // before there is a table
	w.apply(service("10.43.0.1", "10.42.2.2"))
	for name, from := range map[string]netnstest.NS{"outside": w.other, "a pod": w.b, "a pod elsewhere": w.c, "the pod itself": w.a, "the node": w.node} {
		if text, _, err := from.Ask("10.41.0.10:8000"); err != nil || text != "10.42.1.2" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	loopback := HostPort{Addr: netip.MustParseAddr("127.0.0.1"), Protocol: "TCP", Port: 8000, Pod: netip.MustParseAddrPort("10.42.1.3:8080")}
	set(HostPort{Protocol: "TCP", Port: 8001, Pod: netip.MustParseAddrPort("10.42.1.2:8080")}, loopback)
	if text, _, err := w.other.Ask("10.41.0.10:8000"); err == nil {
		t.Errorf("%s answers on a port that was given back", text)
	}
	w.apply()
	w.ask(w.other, "10.41.0.10:8001", 1)
}

// TestExternalAddress: whoever brings packets for the address to the node reaches the service.
func TestExternalAddress(t *testing.T) {
	w := newWorld(t)
	w.other.Route("192.0.2.1/32", "eth0", "10.41.0.10")
	s := service("10.43.0.1", "10.42.1.2", "10.42.2.2")
	s.External = []string{"192.0.2.1"}
	w.apply(s)
	if answers := w.ask(w.other, "192.0.2.1:80", 40); answers["10.42.1.2"] == 0 || answers["10.42.2.2"] == 0 {
		t.Errorf("answers %v, want those of both endpoints", answers)
	}
}
