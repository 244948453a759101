// Package network gives each pod of a node its own network, IPC and UTS namespaces and joins the node to the others.
//
// A pod's link is a veth pair born in the pod's namespace. Both ends are configured by constants and by hashing the pod's
// UID, with fixed neighbour entries, so the link needs no bridge, no ARP and no state: the pod has one /32 address and a
// default route, the node one /32 route per pod. Nodes reach each other's pods by one route per node.
//
// # What survives what
//
// Namespaces are held by bind mounts below <state>/run/pods/<uid>/ns, addresses by symbolic links
// <state>/run/addresses/<address> -> uid, which the file system makes atomically and only once. Both outlive the agent,
// and neither outlives the boot. A sandbox is complete once its record is written; whatever is not complete is torn down
// and made again, so dying between any two steps costs nothing but the next call's time.
//
// A sandbox is removed by letting go of its namespaces: the kernel then removes links and routes by itself, in the
// background and in batches, which is a thousand times faster for us than deleting a link (28 ms).
//
// Neighbours: edgeagent decides when pods come and go, edgeagent/keeper makes containers join the namespaces by path,
// edgeagent/proxy does services. Not here: processes, cgroups, firewall rules.
package network
