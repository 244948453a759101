package edgeagent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/hwprobe"
	"skerry.dev/skerry/messaging"
)

// statusReports keeps what a node said of its readiness.
type statusReports struct {
	fakeReports
	mu    sync.Mutex
	ready []corev1.ConditionStatus
}

func (r *statusReports) NodeStatus(n messaging.NodeReport) error {
	var s corev1.NodeStatus
	if err := s.Unmarshal(n.Status); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range s.Conditions {
		if c.Type == corev1.NodeReady {
			r.ready = append(r.ready, c.Status)
		}
	}
	return nil
}

// A new agent takes a moment to hear of its keeper. The node was ready all the while.
func TestNewAgentDoesNotCallTheNodeNotReady(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // the keeper answers
		want  corev1.ConditionStatus
	}{
		"the keeper answers": {time.Second, corev1.ConditionTrue},
		"the keeper is gone": {time.Hour, corev1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				reports, answered := &statusReports{}, make(chan struct{})
				lost := errKeeperLost
				s := &self{
					name: "n1", config: DefaultConfig(), images: &fakeImages{}, report: reports, log: slog.New(slog.DiscardHandler), node: &node{},
					runs: func() int { return 0 }, answered: answered, healthy: func() error { return lost },
					meter: hwprobe.NewMeter(dir), inventories: make(chan api.Inventory, 1),
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.run(ctx) }()
				s.inventories.put(api.Inventory{Kernel: api.Kernel{Version: "6.1"}})
				if time.Sleep(min(c.after, time.Minute)); c.after < time.Minute {
					lost = nil
					close(answered)
				}
				time.Sleep(time.Minute)
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if len(reports.ready) == 0 || reports.ready[0] != c.want {
					t.Errorf("reported %q, want %q first", reports.ready, c.want)
				}
			})
		})
	}
}
