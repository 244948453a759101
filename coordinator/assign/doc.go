// Package assign gives each node its desired state: it compares what the API's objects say with what stream KV_assign
// holds, and writes the difference. A node reads its own keys and needs nothing else to run its pods.
//
// The stream is derived. Nothing is lost with it: after a restart the publisher reads it back and compares; were it
// empty, every node would be sent its whole state again, and a node never takes an empty stream for an order.
// The leading coordinator's publisher is the stream's only writer.
package assign
