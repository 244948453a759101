package network

import (
	"log/slog"
	"testing"

	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/messaging"
)

// Pod links drop what looks forged, and services rewrite addresses: both together must let every client through.
func TestServicesWorkOverPodLinks(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	p, err := proxy.New(proxy.Settings{
		NodeAddress: n.options.NodeAddress, PodCIDR: n.options.PodCIDR, Masquerade: true,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, b := n.create("a", SandboxOptions{}), n.create("b", SandboxOptions{})
	endpoint := n.serve(a, 8080)
	n.Do(func() error {
		return p.Apply(t.Context(), messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16", Services: []messaging.ServicePort{
				{Name: "s", Protocol: "TCP", ClusterIP: "10.43.0.1", Port: 80, Endpoints: []string{endpoint}},
			},
		})
	})
	wantAnswer(t, b.NetNS, "10.43.0.1:80", b.IP.String())
	wantAnswer(t, n.Path, "10.43.0.1:80", "10.41.0.10")
	wantAnswer(t, a.NetNS, "10.43.0.1:80", "10.41.0.10") // itself, through the node
}
