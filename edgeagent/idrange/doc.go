// Package idrange gives each pod with a user namespace a range of user and group IDs of the node that is nobody else's: what is 0 in the
// pod is the first of them outside.
//
// It remembers who has which range on disk, in one folder, and tells whether this machine can do all that such pods need. It does not
// decide which pods have a user namespace (edgeagent/containerspec does), and makes none (edgeagent/network does).
package idrange
