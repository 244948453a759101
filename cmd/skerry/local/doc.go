// Package local runs the nodes of a cluster on this machine, each as a machine of its own: `skerry-agent init` as process 1
// of fresh pid, mount, network, UTS and IPC namespaces, with its own state folder, address and link to a bridge on the
// host. Killing that process is a power cut; taking its link down is a cable pulled.
//
// It knows no cluster: `skerry up` tells it when to start which node, and which routes the host needs. Everything it makes
// carries a mark derived from the data folder, so that clusters do not meet and a crash leaves nothing that Clean cannot
// find.
package local
