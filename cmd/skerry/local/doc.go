// Package local runs the nodes of a cluster on this machine, each as a machine of its own: `skerry-agent init` as process 1
// of fresh pid, mount, network, UTS and IPC namespaces, with its own state folder, address and link to a switch.
// Killing that process is a power cut; taking its link down is a cable pulled.
//
// # Nothing stays
//
// The switch is a bridge in a network namespace that only this process holds, with one link to the host; the nodes are
// children that the kernel kills when their parent dies. So links, routes, mounts, namespaces and processes vanish by
// themselves however `skerry up` ends. What the kernel does not tie to a process is named after a mark derived
// from the data folder, so that clusters do not meet and Clean finds what a killed run left: control groups and a
// firewall table. The host's firewall never sees what nodes say to each other.
//
// Neighbours: edgeagent/boot is what runs inside a node; `skerry up` says when to start which node, and which routes the
// host needs. It knows no cluster.
package local
