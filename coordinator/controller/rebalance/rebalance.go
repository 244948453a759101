// Package rebalance moves pods from nodes that carry much to nodes that carry little, for instance to a node that came
// back. It starts the replacement before it stops the pod, one move at a time, and only when the gain outweighs the cost.
// Where a pod may run is the scheduler's judgement; how many pods there are is the replicaset package's.
package rebalance

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// Options tune the rebalancer. Zero values become the defaults.
type Options struct {
	// Disabled finishes the move that is under way and begins none.
	Disabled bool
	// MinGain is the least gain less cost of a move, both as drops of the fleet's imbalance (0 to 1). Default 0.01.
	MinGain float64
	// Settle is how long a node must have been ready to give or take pods. Default 30 s.
	Settle time.Duration
	// CoolDown is the time between the end of a move and the next one. Default 10 s.
	CoolDown time.Duration
	// Rest is how long a pod that was moved stays where it is. Default 10 min.
	Rest time.Duration
	// Deadline is how long a replacement may take to become ready, and again how long the old pod may take to stop.
	// Default 2 min.
	Deadline time.Duration
	// BackOff is how long after a failed move none of the same owner's pods is moved to the same node; it doubles with
	// each further failure in the history, up to an hour. Default 5 min.
	BackOff time.Duration
	// History is how many finished moves are kept. Default 20.
	History int
}

const longestBackOff = time.Hour

func (o Options) withDefaults() Options {
	o.MinGain = or(o.MinGain, 0.01)
	o.Settle = or(o.Settle, 30*time.Second)
	o.CoolDown = or(o.CoolDown, 10*time.Second)
	o.Rest = or(o.Rest, 10*time.Minute)
	o.Deadline = or(o.Deadline, 2*time.Minute)
	o.BackOff = or(o.BackOff, 5*time.Minute)
	o.History = or(o.History, 20)
	return o
}

func or[T float64 | time.Duration | int](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// Controller returns the plan as the shell runs it.
func Controller(o Options) controller.Controller {
	o = o.withDefaults()
	reads := controller.Pods | controller.Nodes | controller.ReplicaSets | controller.Deployments | controller.Moves
	return controller.Controller{Name: "rebalance", Reads: reads, Rest: []schema.GroupKind{controller.BudgetKind}, Plan: o.plan, Pace: time.Second / 4}
}

// plan drives the move that is under way, or begins one.
func (o Options) plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{Options: o, s: s, now: now}
	p.index()
	for _, m := range s.Moves {
		if !finished(m) {
			p.advance(m)
		}
	}
	p.sweep()
	p.forget()
	if p.busy == 0 && !o.Disabled {
		p.begin()
	}
	return p.changes, p.wake
}
