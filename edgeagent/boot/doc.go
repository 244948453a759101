// Package boot is the first process of a node that is not a whole machine: of a local cluster's node, or of a container
// that plays one. It gives the node its own view of the machine, starts the keeper and the agent, starts either again
// when it dies, and buries orphans.
//
//	// skerry-agent init --config FILE --keeper FILE: PID 1 of new pid, mount, network, UTS and IPC namespaces
//	c := boot.NewConfig(agent.StateDir, agent.Name, agent.CgroupParent, keeper, self, []string{"--config", file}, log)
//	err := boot.Run(ctx, c) // ctx ends at SIGTERM
//
// Killing it is a power cut: the kernel kills everything in its process namespace. Ending its context is an orderly
// shutdown. SIGHUP puts new files of keeper and agent in the place of the old, and touches no container. On a whole machine the service manager does this job instead, and nothing of this package runs.
//
// Neighbours: cmd/skerry/local makes the namespaces and the link, edgeagent/boot/cgroup the control groups. It must not
// know what keeper and agent do.
package boot
