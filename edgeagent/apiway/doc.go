// Package apiway is how the pods of a node reach the cluster's API: it takes their connections on an address of the node
// and carries each as one byte stream of the node's connection to the coordinator. TLS runs from the pod to the
// coordinator's API server; what passes here is ciphertext, and nobody is known here by more than an address.
//
// Neighbours: edgeagent/proxy leads the kubernetes Service here and keeps other machines out, edgeagent/network has the
// address, messaging the streams with their flow control and their end when the link is cut. Not here: TLS, HTTP,
// permissions.
package apiway
