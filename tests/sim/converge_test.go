package sim

import (
	"testing"
	"time"
)

// TestFleetConverges posts six pods a node to a whole fleet.
func TestFleetConverges(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.join(*nodesFlag)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("web", int32(6**nodesFlag), 300))
		began := time.Now()
		c.eventually("posted state", 5*time.Minute, c.converged)
		t.Logf("%d pods on %d nodes after %s of virtual time", 6**nodesFlag, *nodesFlag, time.Since(began))
		before := c.instances()
		time.Sleep(10 * time.Minute)
		must(t, c.converged())
		must(t, c.unchanged(before))
		must(t, c.noTwins())
	})
}
