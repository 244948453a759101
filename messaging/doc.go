// Package messaging is the language that the coordinator and the agents speak over NATS: subject names, wire messages,
// connections, node credentials, and byte streams with credit-based flow control.
//
// Its subpackages keep objects in one JetStream stream (store), run the server in process (embedded) and offer networks
// that tests can cut and heal (natstest). The package knows nothing of scheduling or containers, and never imports
// nats-server: an agent links it.
package messaging
