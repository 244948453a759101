package sim

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"skerry.dev/skerry/coordinator"
)

// TestCutLinks cuts some nodes off for a minute, a day and a week or, with -sim.month, a month. They go on as they were all the while. What could not
// wait is replaced elsewhere; when the link is back the surplus goes, and whatever stayed is not touched.
func TestCutLinks(t *testing.T) {
	long := 8 * 24 * time.Hour // longer than anything is kept
	if *monthFlag {
		long = 30 * 24 * time.Hour
	}
	for _, c := range []struct {
		away      time.Duration
		nodes     int
		heartbeat time.Duration // slow for the long ones
	}{
		{time.Minute, 10, heartbeat}, {24 * time.Hour, 4, time.Minute}, {long, 2, time.Hour},
	} {
		t.Run(fmt.Sprint(c.away), func(t *testing.T) {
			if testing.Short() && c.away > time.Hour {
				t.Skip("long outages take long under the race detector; run without -short")
			}
			simulateWith(t, func(config *coordinator.Config) { config.Nodes.Heartbeat = c.heartbeat }, func(_ *testing.T, s *cluster) {
				s.cutFor(c.nodes, c.away)
			})
		})
	}
}

func (c *cluster) cutFor(nodes int, away time.Duration) {
	c.join(nodes)
	c.eventually("all nodes ready", 2*time.Minute, c.allReady)
	c.create(deployment("patient", int32(3*nodes), forEver))
	c.create(deployment("quick", int32(3*nodes), 30))
	c.eventually("posted state", 5*time.Minute, c.converged)
	before := c.instances()
	var cut []*node
	for _, i := range c.rnd.Perm(nodes)[:(nodes+3)/4] {
		c.nodes[i].cut()
		cut = append(cut, c.nodes[i])
	}
	time.Sleep(away)
	for _, n := range cut {
		for uid, id := range n.machine.running() {
			if before[uid] != n.name+"/"+id {
				c.t.Errorf("%s, which is cut off, started %s", n.name, id)
			}
		}
	}
	for uid, where := range before {
		if now := c.instances()[uid]; now != where && onOneOf(where, cut) {
			c.t.Errorf("%s of a node that is cut off has become %q", where, now)
		}
	}
	if away > 4*c.config.Nodes.Heartbeat+time.Minute {
		c.replaced(cut)
	}
	for _, n := range cut {
		n.heal()
	}
	c.eventually("everything as posted again", 10*time.Minute+10*c.config.Nodes.Heartbeat, func() error {
		if err := c.allReady(); err != nil {
			return err
		}
		return c.converged()
	})
	must(c.t, c.unchanged(before))
	must(c.t, c.noTwins())
}

func onOneOf(where string, nodes []*node) bool {
	for _, n := range nodes {
		if len(where) > len(n.name) && where[:len(n.name)+1] == n.name+"/" {
			return true
		}
	}
	return false
}

// replaced: what was not to wait runs elsewhere, what was to wait is still bound to its node.
func (c *cluster) replaced(cut []*node) {
	c.t.Helper()
	gone := map[string]bool{}
	for _, n := range cut {
		gone[n.name] = true
		if c.nodeReady(n.name) {
			c.t.Errorf("node %s is cut off and counts as ready", n.name)
		}
	}
	elsewhere, waiting := 0, 0
	for _, p := range c.pods("quick") {
		if !gone[p.Spec.NodeName] && ready(p) {
			elsewhere++
		}
	}
	for _, p := range c.pods("patient") {
		if p.DeletionTimestamp == nil {
			waiting++
		}
	}
	if want := 3 * len(c.nodes); elsewhere != want || waiting != want {
		c.t.Errorf("%d quick pods run within reach and %d patient ones wait, want %d of each", elsewhere, waiting, want)
	}
}

// TestMassFailure cuts most of the fleet off at once: the link is to blame, and nothing is moved.
func TestMassFailure(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		const nodes = 10
		c.join(nodes)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("quick", 3*nodes, 30))
		c.eventually("posted state", 5*time.Minute, c.converged)
		before := c.instances()
		for _, i := range c.rnd.Perm(nodes)[:nodes*7/10] {
			c.nodes[i].cut()
		}
		time.Sleep(8 * time.Minute)
		for _, p := range c.pods("quick") {
			if p.DeletionTimestamp != nil {
				t.Errorf("pod %s on %s is deleted, though most of the fleet fell silent at once", p.Name, p.Spec.NodeName)
			}
		}
		for _, n := range c.nodes {
			n.heal()
		}
		c.eventually("everything as posted again", 10*time.Minute, func() error {
			if err := c.allReady(); err != nil {
				return err
			}
			return c.converged()
		})
		if now := c.instances(); !maps.Equal(before, now) {
			t.Errorf("what ran has changed: %v, before %v", now, before)
		}
	})
}
