package uplink

import "time"

// retry is a timer that doubles its wait with each failure. It belongs to one goroutine.
type retry struct {
	timer *time.Timer
	wait  time.Duration
}

func newRetry() *retry {
	r := &retry{timer: time.NewTimer(time.Hour), wait: retryFirst}
	r.timer.Stop()
	return r
}

// due receives when it is time to try again.
func (r *retry) due() <-chan time.Time { return r.timer.C }

// later arms the timer.
func (r *retry) later() {
	r.timer.Reset(r.wait)
	r.wait = min(2*r.wait, retryMax)
}

func (r *retry) clear() {
	r.timer.Stop()
	r.wait = retryFirst
}

// outcome arms the timer after a failure and clears it after a success.
func (r *retry) outcome(err error) {
	if err != nil {
		r.later()
		return
	}
	r.clear()
}

func (r *retry) stop() { r.timer.Stop() }
