package network

import (
	"log/slog"
	"net/netip"
	"testing"

	"skerry.dev/skerry/edgeagent/network/netns/netnstest"
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

// The API's service leads a node's own programs, pods or not, to the node itself, and nobody else.
func TestOnlyOwnPodsReachTheNodeLocalAddress(t *testing.T) {
	wire := netnstest.New(t)
	n := plugNode(t, netnstest.New(t), wire, "10.41.0.10", "10.42.1.0/24")
	wire.Addr("w10", "10.41.0.99/24")
	wire.Route(NodeLocal.String()+"/32", "w10", "10.41.0.10")
	wire.Route("10.43.0.0/16", "w10", "10.41.0.10")
	pod := n.create("a", SandboxOptions{})
	own := NodeLocal.String() + ":6443"
	n.ServeTCP(own, "api")
	if text, _, err := wire.Ask(own); err != nil || text != "api" {
		t.Fatalf("without rules a host takes what is for it on any link, but: %q, %v", text, err)
	}
	p, err := proxy.New(proxy.Settings{
		NodeAddress: n.options.NodeAddress, PodCIDR: n.options.PodCIDR, Masquerade: true,
		API: netip.MustParseAddrPort(own), PodLinks: LinkPrefix,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	n.Do(func() error {
		return p.Apply(t.Context(), messaging.ServiceTable{
			ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16",
			Services: []messaging.ServicePort{{Namespace: "default", Name: "kubernetes", Protocol: "TCP", ClusterIP: "10.43.0.1", Port: 443}},
		})
	})
	for client, from := range map[string]netnstest.NS{pod.IP.String(): {Path: pod.NetNS}, "10.41.0.10": n.NS} {
		if text, seen, err := from.Ask("10.43.0.1:443"); err != nil || text != "api" || seen != client {
			t.Errorf("%s asks the service: %q, seen as %q, %v", client, text, seen, err)
		}
	}
	for _, address := range []string{own, "10.43.0.1:443"} {
		if text, _, err := wire.Ask(address); err == nil {
			t.Errorf("another machine asks %s: %q", address, text)
		}
	}
}
