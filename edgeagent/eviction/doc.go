// Package eviction decides what a node does when it runs short of memory, disk, inodes or process ids, and when a pod uses
// more ephemeral storage than it may: which conditions the node has, whether images and dead containers are to go, and
// which pod is evicted, in the kubelet's order and words.
//
// It is pure: Decide is a function of thresholds, what was before, a snapshot of measurements, and a time. The agent measures,
// performs the plan, and hands the state to the next call. It must not know how anything is measured or removed.
package eviction
