// Package resolve turns what a pod's spec refers to (config maps, secrets, its own fields, services) into values.
//
// It is pure: all it needs is in a Refs. Secrets arrive sealed and are opened here, in memory, at the moment they are
// needed; nothing keeps them.
package resolve
