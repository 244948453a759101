// Package edgeagent is a node's agent: it makes the node run the pods that it was given, with or without a link.
//
// Who owns what:
//   - the loop (loop.go) owns the node's desired state and the set of pods: it checkpoints first and acts second;
//   - each pod has a worker (worker.go), a goroutine that owns what is known of that pod; edgeagent/pod decides, the worker
//     begins the actions in goroutines of their own (perform.go), and their results come back to it;
//   - edgeagent/uplink owns the connection, edgeagent/keeper the containers: they outlive this process, and a new agent
//     takes them over (adopt.go) without touching those whose spec is unchanged;
//   - the node's own status has one goroutine (nodestatus.go), and so have what it is short of (pressure.go) and what devices it
//     has (devices.go): they end pods by handing their workers a ruling.
//
// A keeper that cannot be reached, a store that is empty, and silence are never taken for an order.
package edgeagent
