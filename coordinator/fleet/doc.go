// Package fleet is the coordinator's side of its nodes: it hears their heartbeats, enrols and registers them, and merges
// what they report into the objects of the API. It decides nothing about a silent node: that is the node lifecycle
// controller's, which reads this package's liveness table.
package fleet
