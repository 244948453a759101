package containerspec

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestBandwidth(t *testing.T) {
	for _, c := range []struct {
		in, out string
		ingress uint64
		egress  uint64
		err     string
	}{
		{},
		{in: "10M", ingress: 10_000_000},
		{out: "1Ki", egress: 1024},
		{in: "2G", out: "8k", ingress: 2_000_000_000, egress: 8000},
		{in: "999", err: "unreasonably small"},
		{out: "-1M", err: "unreasonably small"},
		{out: "2P", err: "unreasonably large"},
		{in: "fast", err: "quantities must match"},
	} {
		p := &corev1.Pod{}
		p.Annotations = map[string]string{}
		if c.in != "" {
			p.Annotations[IngressBandwidth] = c.in
		}
		if c.out != "" {
			p.Annotations[EgressBandwidth] = c.out
		}
		ingress, egress, err := Bandwidth(p)
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && (ingress != c.ingress || egress != c.egress) {
			t.Errorf("%+v: %d, %d", c, ingress, egress)
		}
	}
}
