package sim

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// TestCoordinatorRestarts kills the coordinator twenty times at random moments while it has work, and nothing that runs
// may notice.
func TestCoordinatorRestarts(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		const nodes = 8
		c.join(nodes)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("still", 2*nodes, 300))
		c.create(deployment("busy", nodes, 300))
		c.eventually("posted state", 5*time.Minute, c.converged)
		still := map[string]string{}
		for _, p := range c.pods("still") {
			still[string(p.UID)] = c.instances()[string(p.UID)]
		}
		for range 20 {
			c.scale("busy", int32(c.rnd.IntN(4*nodes)))
			time.Sleep(time.Duration(c.rnd.Int64N(int64(300 * time.Millisecond))))
			c.killCoordinator()
			time.Sleep(time.Duration(c.rnd.Int64N(int64(20 * time.Second))))
			c.startCoordinator()
			c.awaitView()
		}
		c.eventually("posted state", 10*time.Minute, func() error {
			if err := c.allReady(); err != nil {
				return err
			}
			return c.converged()
		})
		now := c.instances()
		for uid, where := range still {
			if now[uid] != where {
				t.Errorf("pod %s of the Deployment that nobody touched ran as %s, and now as %q", uid, where, now[uid])
			}
		}
		must(t, c.noTwins())
	})
}

// awaitView waits until the coordinator has read what there is.
func (c *cluster) awaitView() {
	c.t.Helper()
	select {
	case <-c.core.View().Synced():
	case <-time.After(time.Minute):
		c.t.Fatal("the coordinator does not come up")
	}
}

// TestStoreLost takes the store away between two coordinators. No node stops anything: an empty store is no order. When
// only what is derived is lost, all goes on as if nothing had been.
func TestStoreLost(t *testing.T) {
	for name, streams := range map[string][]string{
		"everything":   {messaging.StreamState, messaging.StreamAssign, messaging.StreamUp, messaging.StreamEvents},
		"what derives": {messaging.StreamAssign, messaging.StreamUp, messaging.StreamEvents},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, c *cluster) {
				c.join(5)
				c.eventually("all nodes ready", 2*time.Minute, c.allReady)
				c.create(deployment("web", 20, 300))
				c.eventually("posted state", 5*time.Minute, c.converged)
				before := c.instances()
				c.killCoordinator()
				js := c.js()
				for _, s := range streams {
					must(t, js.DeleteStream(t.Context(), s))
				}
				c.startCoordinator()
				time.Sleep(10 * time.Minute)
				if now := c.instances(); !maps.Equal(before, now) {
					t.Errorf("what ran has changed: %v, before %v", now, before)
				}
				if len(streams) == 4 {
					return
				}
				c.scale("web", 30)
				c.eventually("posted state", 5*time.Minute, func() error {
					if err := c.allReady(); err != nil {
						return err
					}
					return c.converged()
				})
				must(t, c.unchanged(before))
			})
		})
	}
}

// TestOlderManifest gives a node back a manifest that it has had, as a restored store or a coordinator that was followed by
// another would. The node refuses, also after its agent has started anew, and the next coordinator puts it right.
func TestOlderManifest(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		n := c.join(1)[0]
		c.eventually("node ready", 2*time.Minute, c.allReady)
		c.create(deployment("web", 2, 300))
		c.eventually("posted state", time.Minute, c.converged)
		js := c.js()
		key := messaging.AssignKey(n.name, messaging.ManifestPart)
		old := c.last(js, key)
		c.scale("web", 6)
		c.eventually("posted state", time.Minute, c.converged)
		c.killCoordinator()
		c.startCoordinator()
		c.awaitView()
		c.scale("web", 9)
		c.eventually("posted state", 5*time.Minute, c.converged)
		before := c.instances()
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: key, Data: old.Data, Header: old.Header})
		must(t, err)
		time.Sleep(time.Minute)
		n.restartAgent()
		time.Sleep(time.Minute)
		if now := c.instances(); !maps.Equal(before, now) {
			t.Errorf("the node obeyed an older manifest: %v, before %v", now, before)
		}
		c.killCoordinator()
		c.startCoordinator()
		c.awaitView()
		c.scale("web", 4)
		c.eventually("posted state", 5*time.Minute, c.converged)
		must(t, c.unchanged(before))
	})
}

func (c *cluster) last(js jetstream.JetStream, subject string) *jetstream.RawStreamMsg {
	c.t.Helper()
	stream, err := js.Stream(c.t.Context(), messaging.StreamAssign)
	must(c.t, err)
	m, err := stream.GetLastMsgForSubject(c.t.Context(), subject)
	must(c.t, err)
	return m
}

// TestTwoCoordinators starts one while another still runs, as when the first was cut off or asleep. The first ends by
// itself, and what it wrote last does no harm.
func TestTwoCoordinators(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.join(5)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		c.create(deployment("web", 10, 300))
		c.eventually("posted state", time.Minute, c.converged)
		before := c.instances()
		c.net.Cut(natstest.CoordinatorLink)
		ended, stopFirst := c.coreEnded, c.stopCore
		c.startCoordinatorOn("second")
		c.awaitView()
		c.scale("web", 15)
		c.eventually("posted state", 5*time.Minute, c.converged)
		c.net.Heal(natstest.CoordinatorLink)
		select {
		case err := <-ended:
			if !errors.Is(err, store.ErrDeposed) {
				t.Errorf("the first coordinator ended with %v", err)
			}
			ended <- nil
		case <-time.After(time.Minute):
			t.Error("the first coordinator goes on")
		}
		c.scale("web", 20)
		c.eventually("posted state", 5*time.Minute, c.converged)
		must(t, c.unchanged(before))
		stopFirst()
	})
}

// TestLostMessages has the server tell nodes nothing of what is assigned to them. Their heartbeats say what they have, and
// they are asked to read the rest.
func TestLostMessages(t *testing.T) {
	simulate(t, func(t *testing.T, c *cluster) {
		c.join(5)
		c.eventually("all nodes ready", 2*time.Minute, c.allReady)
		js := c.js()
		stream, err := js.Stream(t.Context(), messaging.StreamAssign)
		must(t, err)
		silent := stream.CachedInfo().Config
		silent.RePublish = nil
		_, err = js.UpdateStream(t.Context(), silent)
		must(t, err)
		for _, replicas := range []int32{20, 5, 12} {
			if replicas == 20 {
				c.create(deployment("web", replicas, 300))
			} else {
				c.scale("web", replicas)
			}
			c.eventually(fmt.Sprintf("%d pods", replicas), 3*time.Minute, c.converged)
		}
		if names := strings.Join(c.behind(), " "); names != "" {
			t.Errorf("behind: %s", names)
		}
	})
}

// behind are the nodes that have not said that they hold their newest manifest.
func (c *cluster) behind() []string {
	var out []string
	time.Sleep(3 * heartbeat)
	js := c.js()
	for _, n := range c.nodes {
		want := c.last(js, messaging.AssignKey(n.name, messaging.ManifestPart)).Sequence
		if have := c.heartbeatOf(n.name).Manifest; have != want {
			out = append(out, fmt.Sprintf("%s holds %d of %d", n.name, have, want))
		}
	}
	return out
}
