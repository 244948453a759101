package sim

import (
	"testing"
	"time"
)

// TestStorm breaks everything at random: links, power, agents, containers, the coordinator, while Deployments
// are scaled. When it is calm again the last posted state is reached, each pod runs once, and nothing else does.
func TestStorm(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		s := &storm{cluster: c, away: map[*node]func(){}}
		c.join(8)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("quick", 20, 10))
		c.create(deployment("patient", 20, forEver))
		for range *stepsFlag {
			s.something()
			time.Sleep(time.Duration(c.rnd.Int64N(int64(18 * time.Second))))
		}
		s.calm()
		// A container that crashed often is restarted after five minutes.
		c.eventually("posted state", 20*time.Minute, func() error {
			if err := c.allReady(); err != nil {
				return err
			}
			return c.converged()
		})
		must(t, c.noTwins())
		before := c.instances()
		time.Sleep(15 * time.Minute)
		must(t, c.converged())
		must(t, c.unchanged(before))
	})
}

// storm remembers how to undo what it has done.
type storm struct {
	*cluster
	away map[*node]func()
}

func (s *storm) something() {
	n := s.nodes[s.rnd.IntN(len(s.nodes))]
	switch s.rnd.IntN(12) {
	case 0, 1:
		s.scaleOne()
	case 2:
		s.killCoordinator()
		time.Sleep(time.Duration(s.rnd.Int64N(int64(30 * time.Second))))
		s.startCoordinator()
		s.awaitView()
	case 3, 4:
		s.take(n, n.cut, n.heal)
	case 5, 6:
		s.take(n, n.powerOff, n.powerOn)
	case 7:
		if s.away[n] == nil {
			n.restartAgent()
		}
	case 8:
		s.net.Reset(n.name)
	case 9:
		n.machine.crash(s.rnd.IntN)
	default:
		s.back(n)
	}
}

func (s *storm) scaleOne() {
	name := "quick"
	if s.rnd.IntN(2) == 0 {
		name = "patient"
	}
	s.eventually("scale "+name, time.Minute, func() error { return s.tryScale(name, int32(s.rnd.IntN(40))) })
}

// take breaks a node that is whole.
func (s *storm) take(n *node, broken, mended func()) {
	if s.away[n] == nil {
		broken()
		s.away[n] = mended
	}
}

func (s *storm) back(n *node) {
	if mend := s.away[n]; mend != nil {
		mend()
		delete(s.away, n)
	}
}

func (s *storm) calm() {
	for _, n := range s.nodes {
		s.back(n)
	}
}

// TestPowerCuts takes the power of random machines, some for long. Pods come back on their machines, or elsewhere.
func TestPowerCuts(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.join(6)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("web", 24, 60))
		c.eventually("posted state", time.Minute, c.converged)
		for range 10 {
			n := c.nodes[c.rnd.IntN(len(c.nodes))]
			cutOff := c.rnd.IntN(2) == 0
			running := len(n.machine.running())
			n.powerOff()
			if cutOff { // it boots alone, from what it has on disk
				n.cut()
				n.powerOn()
				c.eventually(n.name+" runs its pods alone", time.Minute, func() error { return n.runs(running) })
				n.heal()
			} else {
				time.Sleep(time.Duration(c.rnd.Int64N(int64(5 * time.Minute))))
				n.powerOn()
			}
			c.eventually("posted state", 10*time.Minute, func() error {
				if err := c.allReady(); err != nil {
					return err
				}
				return c.converged()
			})
		}
		must(t, c.noTwins())
	})
}
