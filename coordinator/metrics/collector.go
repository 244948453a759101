package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

const (
	// asked bounds the nodes that are asked at once.
	asked = 128
	// answerTime is how long a node may take. A link that is slower than that is no place to measure over.
	answerTime = 3 * time.Second
)

// Config is what a Collector needs.
type Config struct {
	Conn   *nats.Conn
	Signer *messaging.Signer
	Table  *Table
	// Heard says whether a node lives; one that does not is not asked.
	Heard func(node string) bool
	// Wanted names the nodes whose pods somebody watches all the time: those that an autoscaler looks at.
	Wanted func() []string
	Log    *slog.Logger
}

// Collector asks nodes what their pods use.
type Collector struct {
	Config
	mu   sync.Mutex
	busy map[string]chan struct{} // nodes that are being asked; closed when they have answered or not
}

// New returns a collector that has asked nobody.
func New(c Config) *Collector { return &Collector{Config: c, busy: map[string]chan struct{}{}} }

// Run asks the wanted nodes again and again until ctx ends. While nobody wants to know, nothing is sent.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(Fresh)
	defer tick.Stop()
	for {
		c.Collect(ctx, c.Wanted())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Usage is Table.Usage after those nodes were asked whose last answer is not fresh. What one does not answer is missing
// from it, or older.
func (c *Collector) Usage(ctx context.Context, nodes []string) map[string]*controller.Usage {
	c.Collect(ctx, nodes)
	return c.Table.Usage(time.Now())
}

// Collect asks the nodes whose last answer is not fresh, and waits for them.
func (c *Collector) Collect(ctx context.Context, nodes []string) {
	slots := make(chan struct{}, asked) // one for each node that is being asked
	var group sync.WaitGroup
	known := c.Table.Usage(time.Now())
	for _, node := range nodes {
		if u := known[node]; u != nil && time.Since(u.At) < Fresh || !c.Heard(node) {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			group.Wait()
			return
		}
		group.Go(func() {
			defer func() { <-slots }()
			c.once(ctx, node)
		})
	}
	group.Wait()
}

// once asks a node, or waits for who is asking it already.
func (c *Collector) once(ctx context.Context, node string) {
	c.mu.Lock()
	done, busy := c.busy[node]
	if !busy {
		done = make(chan struct{})
		c.busy[node] = done
	}
	c.mu.Unlock()
	if busy {
		select {
		case <-done:
		case <-ctx.Done():
		}
		return
	}
	defer func() {
		c.mu.Lock()
		delete(c.busy, node)
		c.mu.Unlock()
		close(done)
	}()
	if err := c.ask(ctx, node); err != nil && ctx.Err() == nil {
		c.Log.Debug("node does not say what its pods use", "node", node, "err", err)
	}
}

func (c *Collector) ask(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	msg := nats.NewMsg(messaging.CommandSubject(node, "usage"))
	signature, err := c.Signer.Sign(msg.Subject, nil)
	if err != nil {
		return err
	}
	msg.Header.Set(messaging.SignatureHeader, signature)
	answer, err := c.Conn.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	report, err := messaging.DecodeUsage(answer.Data)
	if err != nil {
		return err
	}
	if report.Window > 0 {
		c.Table.put(node, report, time.Now())
	}
	return nil
}
