package edgeagent

import (
	"testing"
	"time"
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
