// Package uplink is a node's one connection: it joins and registers the node, hears its desired state, says that the node
// lives, delivers its reports, and answers the coordinator's commands.
//
// It judges what it hears: a manifest of another cluster, with a wrong signature or of an older epoch than the one held
// is refused, and only a complete set is handed on (edgeagent checkpoints it, then acts). Silence, an empty store or an
// error is never handed on as a change. What a node reports waits in edgeagent/uplink/wal while the link is down.
//
// It starts no container, and knows pods only as values.
package uplink
