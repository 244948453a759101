package pod

import (
	"errors"
	"time"
)

// The kubelet's figures: pkg/kubelet/kubelet.go (MaxCrashLoopBackOff, initialBackOff of 10 s, MaxImageBackOff) and
// flowcontrol.Backoff, which forgets an entry after twice the maximum.
const (
	backOffFirst = 10 * time.Second
	backOffMax   = 5 * time.Minute
	crashReset   = 10 * time.Minute
)

// backOff is the wait after the n-th event in a row: none for n < 1, then 10 s doubling to 5 min.
func backOff(n int) time.Duration {
	if n < 1 {
		return 0
	}
	d := backOffFirst
	for ; n > 1 && d < backOffMax; n-- {
		d *= 2
	}
	return min(d, backOffMax)
}

// setUpBackOff is the wait after the n-th failure in a row of a step that is the node's own work (volumes, sandbox, creation,
// signals): 1 s doubling to 1 min, since nobody's registry is at the other end.
func setUpBackOff(n int) time.Duration {
	if n < 1 {
		return 0
	}
	return min(time.Second<<min(n-1, 6), time.Minute)
}

// after is when a step that failed at t may be taken again. A time in the future of now comes from a clock that was set
// back and counts as now.
func after(t time.Time, wait time.Duration, now time.Time) time.Time {
	if t.After(now) {
		t = now
	}
	return t.Add(wait)
}

func asFailure(err error, f **Failure) bool { return errors.As(err, f) }
