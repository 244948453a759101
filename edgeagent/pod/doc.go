// Package pod decides what a node does next for one pod: Next looks at what is wanted and what is there and names the
// steps to take now, when to look again, and the status to report, worded as a kubelet words it.
//
// It is pure: no clock, goroutine, I/O or logger. The caller performs the actions, tells Observed when one begins and
// how it ended, and calls Next again. Every action may be repeated without harm.
package pod
