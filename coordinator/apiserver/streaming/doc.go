// Package streaming ends the upgraded connections of clients: sessions with a process (exec, attach) and port-forwards,
// over websockets or SPDY. What it carries comes from a connection to the node that its caller opens; it knows no pods, no
// users and no NATS. Everything it starts ends before its functions return, nothing is queued: a side that does not read
// stops the other.
package streaming
