// Package sim is the cluster simulation: the real coordinator and real agents over a real NATS server in virtual time, with
// machines whose containers, links and power the test can break. A month passes in seconds. The order of events is not
// fixed, so tests assert what must hold, never when or in which order it came about.
//
// `make sim` runs it; -sim.seed repeats the random choices of a run, -sim.nodes makes the fleet larger.
package sim
