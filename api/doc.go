// Package api holds Skerry's own words: the group fleet.skerry.dev, its kinds, and the labels, annotations and taints
// that the coordinator and the agents agree on. Workloads use the types of k8s.io/api; nothing here repeats them.
//
// The package is pure: no clock, no I/O, no goroutine. It imports the Kubernetes API machinery and nothing of Skerry.
//
// +k8s:deepcopy-gen=package
// +groupName=fleet.skerry.dev
package api
