package containerspec

import (
	"strings"
	"testing"
)

func TestNonRoot(t *testing.T) {
	for _, c := range []struct {
		spec, image string
		uid         uint32
		want        string // empty: it may run
	}{
		{`containers: [{}]`, "", 0, ""},
		{`{securityContext: {runAsNonRoot: true}, containers: [{}]}`, "", 0, "container has runAsNonRoot and image will run as root (pod: \"web_shop(u1)\", container: app)"},
		{`{securityContext: {runAsNonRoot: true}, containers: [{}]}`, "0:5", 0, "image will run as root"},
		{`{securityContext: {runAsNonRoot: true}, containers: [{}]}`, "7", 7, ""},
		{`{securityContext: {runAsNonRoot: true}, containers: [{}]}`, "web:8", 7, "image has non-numeric user (web), cannot verify user is non-root"},
		{`{securityContext: {runAsNonRoot: true, runAsUser: 9}, containers: [{}]}`, "web", 9, ""},
		{`{securityContext: {runAsNonRoot: true, runAsUser: 0}, containers: [{}]}`, "7", 0, "container's runAsUser breaks non-root policy"},
		{`{securityContext: {runAsNonRoot: true}, containers: [{securityContext: {runAsNonRoot: false}}]}`, "", 0, ""},
	} {
		in := input(t, c.spec)
		in.Image.User, in.User.UID = c.image, c.uid
		_, err := Build(in)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, image user %q: %v, want %q", c.spec, c.image, err, c.want)
		}
	}
}
