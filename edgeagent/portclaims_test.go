package edgeagent

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const withPort = `{restartPolicy: Never, containers: [{name: app, image: web, ports: [{containerPort: 80, hostPort: 8080}]}]}`

// TestPortClaims: a pod that was sent here past the scheduler is refused while another has its port, whatever way that
// one's end takes.
func TestPortClaims(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		holder, refused := aPod(t, "u1", withPort), aPod(t, "u2", withPort)
		w.desire(holder)
		w.settle(time.Second)
		w.desire(holder, refused)
		s, _ := w.reports.status("u2")
		w.check("words", []string{string(s.Phase), s.Reason, s.Message}, []string{"Failed", "NodePorts", portsTakenMessage})
		w.check("nothing of it was started", w.keeper.all(), []string{"u1-app-0"})
		udp := aPod(t, "u3", `containers: [{name: app, image: web, ports: [{containerPort: 80, hostPort: 8080, protocol: UDP}]}]`)
		w.desire(holder, refused, udp)
		w.check("another protocol is another port", w.phase("u3"), "Running ready 0")

		w.keeper.exit("u1-app-0", 0)
		w.settle(time.Second)
		next := aPod(t, "u4", withPort)
		w.desire(holder, refused, udp, next)
		w.check("the holder has finished", w.phase("u4"), "Running ready 0")
		w.check("the refused one stays refused", w.phase("u2"), "Failed ContainerCreating 0")

		last := aPod(t, "u5", withPort)
		w.desire(holder, refused, udp, last) // u4 was deleted by force: its end is still under way
		w.check("nobody knows the holder any more", w.phase("u5"), "Running ready 0")
	})
}

// TestPortClaimsAfterRestart: pods that an earlier agent had keep their ports from newcomers although none of them runs when the new
// agent hears of both, and a port that nobody has any more is free.
func TestPortClaimsAfterRestart(t *testing.T) {
	const port = `ports: [{containerPort: 80, hostPort: %d}]`
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.images.missing["none"] = true
		crashing := aPod(t, "a1", `{containers: [{name: app, image: web, `+fmt.Sprintf(port, 8080)+`}]}`)
		pulling := aPod(t, "a2", `{containers: [{name: app, image: none, `+fmt.Sprintf(port, 8081)+`}]}`)
		leaving := aPod(t, "a3", `{containers: [{name: app, image: web, `+fmt.Sprintf(port, 8082)+`}]}`)
		w.desire(crashing, pulling, leaving)
		w.keeper.exit("a1-app-0", 1)
		w.settle(time.Second)
		w.keeper.exit("a1-app-1", 1)
		w.keeper.exit("a3-app-0", 1)
		w.settle(time.Second)
		w.keeper.exit("a3-app-1", 1)
		w.settle(time.Second)
		w.kill()

		w.boot()
		pods := []*corev1.Pod{crashing, pulling}
		for i := range 20 { // the order in which pods begin is a map's
			pods = append(pods, aPod(t, fmt.Sprintf("b%d", i), `{containers: [{name: app, image: web, `+fmt.Sprintf(port, 8080+i%2)+`}]}`))
		}
		heir := aPod(t, "heir", `{containers: [{name: app, image: web, `+fmt.Sprintf(port, 8082)+`}]}`)
		w.desire(append(pods, heir)...)
		w.settle(time.Minute)
		w.check("the one that crashed", w.phase("a1"), "Running ready 2")
		w.check("the one that never ran", w.phase("a2"), "Pending ImagePullBackOff 0")
		w.check("whose owner is wanted no more", w.phase("heir"), "Running ready 0")
		for _, p := range pods[2:] {
			if s, _ := w.reports.status(string(p.UID)); s.Reason != portsTakenReason {
				t.Errorf("%s is %s %s, want it refused", p.UID, s.Phase, s.Reason)
			}
		}
	})
}

func TestPortClaimsCollide(t *testing.T) {
	for name, c := range map[string]struct {
		a, b claimedPort
		want bool
	}{
		"same":              {claimedPort{"TCP", "", 80}, claimedPort{"TCP", "", 80}, true},
		"number":            {claimedPort{"TCP", "", 80}, claimedPort{"TCP", "", 81}, false},
		"protocol":          {claimedPort{"TCP", "", 80}, claimedPort{"UDP", "", 80}, false},
		"address":           {claimedPort{"TCP", "127.0.0.1", 80}, claimedPort{"TCP", "10.0.0.1", 80}, false},
		"all are one's too": {claimedPort{"TCP", "127.0.0.1", 80}, claimedPort{"TCP", "", 80}, true},
	} {
		if c.a.collides(c.b) != c.want || c.b.collides(c.a) != c.want {
			t.Errorf("%s: collide %t", name, !c.want)
		}
	}
}
