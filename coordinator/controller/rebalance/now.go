package rebalance

import (
	"time"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Hasty is o for somebody who asks for it now: nodes need not have settled, the last move need not have cooled down, and
// rebalancing may be switched off.
func (o Options) Hasty() Options {
	o.Disabled, o.Settle, o.CoolDown = false, time.Nanosecond, time.Nanosecond
	return o
}

// First returns the best move as an object to create, or nil and why there is none. The controller then carries it out.
func First(s *controller.Snapshot, now time.Time, o Options) (*api.MovePlan, string) {
	r := Propose(s, now, o)
	switch {
	case r.Held != "":
		return nil, r.Held
	case len(r.Moves) == 0:
		return nil, "no move is worth its cost"
	}
	p := &planner{Options: o.withDefaults(), s: s, now: now}
	p.index()
	return p.newMove(r.Moves[0]), ""
}
