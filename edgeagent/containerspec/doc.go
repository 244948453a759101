// Package containerspec translates a container of a pod's spec, and the configuration of its image, into what the keeper
// is asked to make.
//
// It is pure but for LookUpUser, which reads the image's user tables. Formulas are the kubelet's, with their source named,
// so that a pod gets the same limits and the same place in the kernel's out-of-memory order as on any Kubernetes node.
package containerspec
