package boot

import "time"

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// healthyAfter is how long a program must have run for its deaths to be forgotten.
	healthyAfter = 10 * time.Second
)

// backoff is how long a program that keeps dying must wait. The zero value has seen no death.
type backoff struct {
	wait time.Duration
}

// after returns the wait after a death, given how long the program ran: doubling from death to death.
func (b *backoff) after(ran time.Duration) time.Duration {
	if ran >= healthyAfter || b.wait == 0 {
		b.wait = firstBackoff
	} else {
		b.wait = min(2*b.wait, lastBackoff)
	}
	return b.wait
}
