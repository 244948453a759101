// Package e2e tests the whole of Skerry on real parts: the four binaries, real containers on three nodes with their own
// networks, and the programs that people use with it: kubectl, the nats CLI, crane and skopeo. It needs root and what
// `make build tools` builds; `make e2e` does all of it.
//
// The tests share one cluster, each in its own namespace. Those that break nodes run alone and first, and put things
// right before they end; the others run in parallel after them. The package holds tests only.
package e2e
