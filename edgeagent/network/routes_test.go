package network

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"skerry.dev/skerry/messaging"
)

func TestSetRoutesFollowsTheTable(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	n.Do(func() error { // somebody else's route
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(gateway), Scope: netlink.SCOPE_LINK})
	})
	self := messaging.NodeRoute{Node: "self", Address: "10.41.0.10", PodCIDR: "10.42.1.0/24"}
	steps := []struct {
		name    string
		nodes   []messaging.NodeRoute
		want    []string
		problem string
	}{
		{name: "nobody else", nodes: []messaging.NodeRoute{self}},
		{
			name:  "two others",
			nodes: []messaging.NodeRoute{self, {Address: "10.41.0.11", PodCIDR: "10.42.2.0/24"}, {Address: "10.41.0.12", PodCIDR: "10.42.3.0/24"}},
			want:  []string{"10.42.2.0/24 via 10.41.0.11", "10.42.3.0/24 via 10.41.0.12"},
		},
		{
			name:  "one has a new address, one has a new range",
			nodes: []messaging.NodeRoute{self, {Address: "10.41.0.21", PodCIDR: "10.42.2.0/24"}, {Address: "10.41.0.12", PodCIDR: "10.42.4.0/24"}},
			want:  []string{"10.42.2.0/24 via 10.41.0.21", "10.42.4.0/24 via 10.41.0.12"},
		},
		{
			name: "bad entries do not stop good ones",
			nodes: []messaging.NodeRoute{
				{Node: "all", Address: "10.41.0.66", PodCIDR: "0.0.0.0/0"},
				{Node: "mine", Address: "10.41.0.66", PodCIDR: "10.42.1.128/25"},
				{Node: "words", Address: "here", PodCIDR: "10.42.5.0/24"},
				{Node: "local", Address: "127.0.0.1", PodCIDR: "10.42.5.0/24"},
				{Node: "unreachable", Address: "192.0.2.1", PodCIDR: "10.42.6.0/24"},
				{Node: "good", Address: "10.41.0.21", PodCIDR: "10.42.2.0/24"},
				{Node: "thief", Address: "10.41.0.66", PodCIDR: "10.42.2.64/26"},
			},
			want:    []string{"10.42.2.0/24 via 10.41.0.21"},
			problem: "all mine words local unreachable|192.0.2.1 thief",
		},
		{name: "an empty table removes all"},
	}
	for _, step := range steps {
		for range 2 { // the second time changes nothing
			err := n.SetRoutes(t.Context(), step.nodes)
			if (err != nil) != (step.problem != "") {
				t.Fatalf("%s: %v", step.name, err)
			}
			for word := range strings.FieldsSeq(step.problem) {
				if !mentions(err.Error(), word) {
					t.Errorf("%s: the error does not mention %s: %v", step.name, word, err)
				}
			}
			if diff := cmp.Diff(step.want, n.nodeRouteTexts()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.name, diff)
			}
		}
	}
	n.Do(func() error {
		_, err := netlink.RouteGet(gateway.AsSlice())
		return err
	})
}

// mentions takes alternatives apart at "|".
func mentions(text, words string) bool {
	for word := range strings.SplitSeq(words, "|") {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func (n *testNode) nodeRouteTexts() []string {
	n.t.Helper()
	routes, err := n.nodeRoutes()
	if err != nil {
		n.t.Fatal(err)
	}
	var texts []string
	for _, route := range routes {
		texts = append(texts, route.pods.String()+" via "+route.via.String())
	}
	return texts
}
