// Package gauge measures what a node has left, memory, disk, inodes and process ids, and how much room a tree of files takes.
//
// Package eviction judges the figures and the agent acts on them. Trees are written by containers that may be hostile: they
// are walked by descriptors, never through a link and never onto another file system.
package gauge
