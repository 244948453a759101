package embedded

import "github.com/nats-io/nats-server/v2/server/ats"

// HoldClock keeps the server's coarse clock, which all servers of a process share, from being started by the next one.
// A test in virtual time must call it outside its bubble: a ticker made inside would never let time go on.
func HoldClock() (release func()) {
	ats.Register()
	return ats.Unregister
}
