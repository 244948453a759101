package proxy

import (
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
