package messaging

import "time"

// Permissions is everything that a connection may publish to and subscribe to; nothing else is allowed.
type Permissions struct {
	Publish   []string
	Subscribe []string
	// Responses is how many answers to one request may go to its reply subject, within ResponseTime. Zero allows none.
	Responses    int
	ResponseTime time.Duration
}

// NodePermissions is what a node may do: speak as itself, hear what is addressed to it or to all, and read its own keys
// of KV_assign. It names no subject of another node.
//
// A permission says nothing about the reply subject of a request, so a node can make a server or coordinator answer to a
// subject of another node. Hence manifests and commands are signed, session names are secret, and the server keeps
// nodes in an account of their own where no stream listens.
func NodePermissions(node string) Permissions {
	n := Token(node)
	return Permissions{
		Publish: []string{
			HeartbeatSubject(node),
			root + "telemetry." + n + ".>",
			root + "up." + n + ".>",
			root + "api.node." + n + ".>",
			root + "stream." + n + ".*.out",
			directGet + AssignKey(node, ">"),
			directGet + AssignKey(Broadcast, ">"),
		},
		Subscribe: []string{
			InboxPrefix(node) + ".>",
			root + "cmd." + n + ".>",
			root + "stream." + n + ".*.in",
			AssignSubjects(node),
			AssignSubjects(Broadcast),
		},
		Responses:    4,
		ResponseTime: time.Minute,
	}
}

// directGet is the one JetStream read that is safe to allow per subject: the key is in the subject, not in the body.
const directGet = "$JS.API.DIRECT.GET." + StreamAssign + "."
