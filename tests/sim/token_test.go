package sim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/messaging"
)

// tokenSeconds is the shortest life that a token may have.
const tokenSeconds = 600

// withToken gives a Deployment's pods a volume with a token of their account.
func withToken(d *appsv1.Deployment) *appsv1.Deployment {
	seconds := int64(tokenSeconds)
	spec := &d.Spec.Template.Spec
	spec.Volumes = []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: &seconds}},
	}}}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "token", MountPath: "/token"}}
	return d
}

// token is the one in the volume of the node's only pod, and when it ends.
func (n *node) podToken() (text string, ends time.Time, err error) {
	n.machine.mu.Lock()
	defer n.machine.mu.Unlock()
	for _, refs := range n.machine.prepared {
		sealed := refs.Secrets[messaging.TokenSecret("vault", tokenSeconds)][messaging.TokenKey]
		data, err := refs.Open(sealed)
		if err != nil {
			return "", ends, err
		}
		parts := strings.Split(string(data), ".")
		if len(parts) != 3 {
			return "", ends, fmt.Errorf("no token: %q", data)
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return "", ends, err
		}
		var claims struct {
			Exp int64
			Aud []string
		}
		err = json.Unmarshal(payload, &claims)
		return string(data), time.Unix(claims.Exp, 0), err
	}
	return "", ends, errors.New("no pod has volumes")
}

// A running pod finds a token that holds in its volume, for as long as it runs: new ones come well before the old ones end,
// after a cut link too, and neither they nor a new coordinator restart the pod.
func TestTokensAreRenewed(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		n := c.join(1)[0]
		c.create(withToken(deployment("web", 1, forEver)))
		c.eventually("the pod runs", time.Minute, func() error { return n.runs(1) })
		ran := fmt.Sprint(n.machine.running())
		seen := map[string]bool{}
		holds := func() error {
			text, ends, err := n.podToken()
			if err == nil && !ends.After(time.Now()) {
				err = fmt.Errorf("the token ended %s ago", time.Since(ends))
			}
			seen[text] = true
			return err
		}
		pass := func(d time.Duration) {
			t.Helper()
			for began := time.Now(); time.Since(began) < d; time.Sleep(20 * time.Second) {
				if err := holds(); err != nil {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}
			}
		}
		pass(time.Hour)
		if want := int(time.Hour / (tokenSeconds * time.Second)); len(seen) < want || len(seen) > 3*want {
			t.Errorf("%d tokens in an hour, each good for %d s", len(seen), tokenSeconds)
		}

		n.cut()
		time.Sleep(2 * tokenSeconds * time.Second)
		n.heal()
		c.eventually("a new token after the link was cut", time.Minute, holds)

		before := len(seen)
		c.killCoordinator()
		c.startCoordinator()
		pass(time.Minute)
		if len(seen) > before+1 { // one if its time came just then
			t.Errorf("a new coordinator made %d tokens", len(seen)-before)
		}
		pass(2 * tokenSeconds * time.Second)
		if now := fmt.Sprint(n.machine.running()); now != ran {
			t.Errorf("%s runs now, and %s did", now, ran)
		}
	})
}
