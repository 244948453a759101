// Package proxy makes Services work on one node: connections to a cluster IP go to one of the service's ready endpoints.
//
// Render is pure: it turns the signed service table into a Ruleset. Proxy writes rulesets to the kernel's nftables over
// netlink, in one transaction each, touching only its own table "skerry". The kernel forwards; nothing of the agent is in
// the data path, and services keep working while the agent is down or the node is cut off.
//
// # The rules
//
// A new connection to a service is looked up twice. Map "services" (cluster IP, protocol, port) says which chain picks:
// "pick-3" draws a random number below 3, "stick-256" hashes the client's address to a number below 256. The number is the
// last part of the key of map "slots", whose value is the endpoint:
//
//	dnat to ip daddr . meta l4proto . th dport . numgen random mod 3 map @slots
//
// There is one picking chain per distinct number of endpoints in use, not per service, so the rules stay few, the spread
// over endpoints is exactly even for every number of them, and a change of one service touches that service's elements only.
//
// With ClientIP affinity a service has more slots than endpoints, filled by rendezvous hashing: when an endpoint
// goes, only its clients move, and every node picks the same endpoint for a client.
//
// A node port is an entry of the same maps under the node's own address; with externalTrafficPolicy Local it leads to the
// node's own endpoints only.
//
// What still has a service address after that has no endpoint, and is refused at once. Connections whose answer would
// not come back through this node are masqueraded: a pod that reaches itself, and clients outside the cluster whose
// endpoint is on another node; through a node port, everybody whose endpoint is on another node. Pods keep their address towards pods.
//
// The kubernetes Service leads every node's pods to an address of that node, where edgeagent/apiway takes them to the
// coordinator. Chain "input" drops what comes there by other links than the pods'.
//
// Neighbours: edgeagent/uplink hears the table, edgeagent/network makes pod links and routes. Not here: DNS, IPv6.
package proxy
