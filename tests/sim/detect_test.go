package sim

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator"
	"skerry.dev/skerry/messaging"
)

// TestDetectionDoesNotSlowWithSize lets one node of ten fall silent, and one of a thousand. Both are found out as soon as
// they have missed three heartbeats.
func TestDetectionDoesNotSlowWithSize(t *testing.T) {
	took := map[int]time.Duration{}
	for _, size := range []int{10, 1000} {
		wide := func(config *coordinator.Config) { config.Network.PodCIDR = "10.64.0.0/12" } // a /24 for each of the thousand
		simulateWith(t, wide, func(t *testing.T, c *cluster) {
			c.net.SetAuth(nil) // a thousand enrolments are not what is measured
			var all []*pulse
			for i := range size {
				all = append(all, c.pulse(fmt.Sprintf("p%04d", i)))
			}
			c.eventually("all nodes ready", 2*time.Minute, func() error { return c.pulsesReady(all) })
			time.Sleep(4 * heartbeat)
			victim := all[c.rnd.IntN(size)]
			last := victim.stop()
			c.eventually("the silent node found out", time.Minute, func() error {
				if c.nodeReady(victim.name) {
					return fmt.Errorf("%s counts as ready %s after its last heartbeat", victim.name, time.Since(last))
				}
				return nil
			})
			took[size] = time.Since(last)
			for _, p := range all {
				if p != victim && !c.nodeReady(p.name) {
					t.Errorf("%s beats and is not ready", p.name)
				}
				p.stop()
			}
		})
	}
	t.Logf("silence found out after %v", took)
	// Two polls of the test at most lie between the two.
	if difference := (took[1000] - took[10]).Abs(); difference > 500*time.Millisecond || took[10] < 3*heartbeat || took[10] > 3*heartbeat+time.Second {
		t.Errorf("found out after %s of ten nodes and %s of a thousand, want three heartbeats of %s", took[10], took[1000], heartbeat)
	}
}

// pulse is a node that does nothing but live.
type pulse struct {
	name string
	stop func() (last time.Time)
}

func (c *cluster) pulse(name string) *pulse {
	c.t.Helper()
	conn := c.net.NodeConn(name)
	c.introduce(conn, name)
	ended, stopped := make(chan struct{}), make(chan time.Time, 1) // the time of the last beat
	go func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		var last time.Time
		for seq := uint64(1); ; seq++ {
			data, err := json.Marshal(messaging.Heartbeat{Boot: name, Seq: seq})
			if err == nil {
				err = conn.Publish(messaging.HeartbeatSubject(name), data)
			}
			if err != nil {
				c.t.Errorf("heartbeat of %s: %v", name, err)
			}
			last = time.Now()
			select {
			case <-tick.C:
			case <-c.t.Context().Done():
				return
			case <-ended:
				stopped <- last
				return
			}
		}
	}()
	p := &pulse{name: name}
	p.stop = func() time.Time {
		close(ended)
		last := <-stopped
		p.stop = func() time.Time { return last }
		return last
	}
	return p
}

// introduce registers a node and reports it ready.
func (c *cluster) introduce(conn *nats.Conn, name string) {
	c.t.Helper()
	curve, err := nkeys.CreateCurveKeys()
	must(c.t, err)
	seal, err := curve.PublicKey()
	must(c.t, err)
	body, err := json.Marshal(messaging.RegisterRequest{Protocol: messaging.ProtocolVersion, Boot: name, SealKey: seal, Address: "10.41.0.1"})
	must(c.t, err)
	c.eventually("register "+name, time.Minute, func() error {
		answer, err := conn.Request(messaging.NodeAPISubject(name, "register"), body, 10*time.Second)
		if err != nil {
			return err
		}
		var reply messaging.RegisterReply
		if err := json.Unmarshal(answer.Data, &reply); err != nil || reply.Error != "" {
			return fmt.Errorf("register: %s %w", reply.Error, err)
		}
		return nil
	})
	status := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	data, err := status.Marshal()
	must(c.t, err)
	report, err := json.Marshal(messaging.NodeReport{Boot: name, Seq: 1, Status: data})
	must(c.t, err)
	_, err = conn.Request(messaging.UpSubject(name, "node", "status"), report, 10*time.Second)
	must(c.t, err)
}

func (c *cluster) pulsesReady(all []*pulse) error {
	for _, p := range all {
		if !c.nodeReady(p.name) {
			return fmt.Errorf("%s is not ready", p.name)
		}
	}
	return nil
}
