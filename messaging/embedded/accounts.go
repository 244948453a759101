package embedded

import (
	"github.com/nats-io/nats-server/v2/server"

	"skerry.dev/skerry/messaging"
)

// Names of the accounts.
const (
	coreAccount  = "CORE"
	nodesAccount = "NODES"
	usersAccount = messaging.UsersAccount
)

// coordinatorInbox is where answers to the coordinator go. It is not _INBOX, since what the server sends to _INBOX is for
// automation users.
const coordinatorInbox = "_CORE"

// accounts keep streams and the coordinator apart from nodes and automation users.
//
// Permissions alone would not do. A client may put any reply subject on a request that it may make, and whoever answers
// publishes there with his own rights: a node that asks the coordinator something with the reply subject
// $JS.API.STREAM.PURGE.KV_state would have it purge the cluster's state, and one that reads its own key with the reply
// subject $KV.state.pods.x.y would have the server overwrite a pod. Across accounts an answer goes to where the request
// came from: in NODES and USERS no stream and no JetStream listens.
//
// The import of skerry.v1.api.> shares who asks: the server takes away what the client may have written in the header
// Nats-Request-Info and says there itself whose connection the request came from (see messaging.CallerOf).
const accounts = `
accounts {
  CORE {
    jetstream: enabled
    exports: [
      {service: "$JS.API.DIRECT.GET.KV_assign.>", accounts: [NODES]}
      {service: "skerry.v1.up.>", accounts: [NODES]}
      {service: "skerry.v1.api.node.>", accounts: [NODES]}
      {stream: "skerry.v1.assign.>", accounts: [NODES]}
      {stream: "skerry.v1.stream.*.*.in", accounts: [NODES]}
      {service: "skerry.v1.api.>", accounts: [USERS]}
      {service: "$SRV.>", response: stream, accounts: [USERS]}
      {service: "$JS.API.INFO", accounts: [USERS]}
      {service: "$JS.API.STREAM.>", accounts: [USERS]}
      {service: "$JS.API.CONSUMER.>", response: stream, accounts: [USERS]}
      {service: "$JS.API.DIRECT.GET.>", response: stream, accounts: [USERS]}
      {service: "$JS.FC.>", accounts: [USERS]}
      {stream: "skerry.v1.evt.>", accounts: [USERS]}
      {stream: "_INBOX.>", accounts: [USERS]}
    ]
    imports: [
      {service: {account: NODES, subject: "skerry.v1.cmd.>"}}
      {stream: {account: NODES, subject: "skerry.v1.hb.*"}}
      {stream: {account: NODES, subject: "skerry.v1.telemetry.>"}}
      {stream: {account: NODES, subject: "skerry.v1.stream.*.*.out"}}
    ]
  }
  NODES {
    exports: [
      {service: "skerry.v1.cmd.>", accounts: [CORE]}
      {stream: "skerry.v1.hb.*", accounts: [CORE]}
      {stream: "skerry.v1.telemetry.>", accounts: [CORE]}
      {stream: "skerry.v1.stream.*.*.out", accounts: [CORE]}
    ]
    imports: [
      {service: {account: CORE, subject: "$JS.API.DIRECT.GET.KV_assign.>"}}
      {service: {account: CORE, subject: "skerry.v1.up.>"}}
      {service: {account: CORE, subject: "skerry.v1.api.node.>"}}
      {stream: {account: CORE, subject: "skerry.v1.assign.>"}}
      {stream: {account: CORE, subject: "skerry.v1.stream.*.*.in"}}
    ]
  }
  USERS {
    imports: [
      {service: {account: CORE, subject: "skerry.v1.api.>"}, share: true}
      {service: {account: CORE, subject: "$SRV.>"}}
      {service: {account: CORE, subject: "$JS.API.INFO"}}
      {service: {account: CORE, subject: "$JS.API.STREAM.>"}}
      {service: {account: CORE, subject: "$JS.API.CONSUMER.>"}}
      {service: {account: CORE, subject: "$JS.API.DIRECT.GET.>"}}
      {service: {account: CORE, subject: "$JS.FC.>"}}
      {stream: {account: CORE, subject: "skerry.v1.evt.>"}}
      {stream: {account: CORE, subject: "_INBOX.>"}}
    ]
  }
  SYS {}
}
system_account: SYS
`

// UserGrant is what an automation user may do. Zero means nothing.
type UserGrant struct {
	Name string // whose login it is
	// ID is what each request of the login carries as messaging.Caller.ID, so that whoever answers can ask what the user may do
	// now. It must be of NewUserID.
	ID string
	// API lets it call skerry.v1.api.<kind>.<verb>; the endpoint itself asks what the user may do there.
	API bool
	// Events are the subjects below skerry.v1.evt that it may hear.
	Events []string
	// State lets it read the bucket "state" (secrets too) and the stream EVENTS by consumers. The server lets whoever may
	// make a consumer choose any subject for what it delivers, so this is for those who may change everything anyway.
	State bool
}

func nodePermissions(node string) *server.Permissions {
	p := messaging.NodePermissions(node)
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.Publish},
		Subscribe: &server.SubjectPermission{Allow: p.Subscribe},
		Response:  &server.ResponsePermission{MaxMsgs: p.Responses, Expires: p.ResponseTime},
	}
}

// userPermissions give an ordinary user an inbox of his own, _INBOX.<name>, so that no user reads another's answers (with
// the nats CLI: --inbox-prefix). Whoever reads all state has all of _INBOX, which is what tools take by default.
func userPermissions(g UserGrant) *server.Permissions {
	pub := &server.SubjectPermission{Deny: []string{messaging.APIGroup + ".node.>"}}
	sub := &server.SubjectPermission{Allow: []string{messaging.InboxPrefix(g.Name) + ".>"}}
	if g.API {
		pub.Allow = append(pub.Allow, messaging.APIGroup+".>", "$SRV.PING", "$SRV.PING.>", "$SRV.INFO", "$SRV.INFO.>")
	}
	sub.Allow = append(sub.Allow, g.Events...)
	if g.State {
		pub.Allow = append(pub.Allow, stateRequests()...)
		pub.Allow = append(pub.Allow, "$SRV.STATS", "$SRV.STATS.>") // they hold each endpoint's last error, which names users and objects
		sub.Allow = append(sub.Allow, "_INBOX.>")
	}
	if len(pub.Allow) == 0 { // an empty list would allow everything
		pub.Deny = append(pub.Deny, ">")
	}
	return &server.Permissions{Publish: pub, Subscribe: sub}
}

// stateRequests are the JetStream requests that only read.
func stateRequests() []string {
	requests := []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"}
	for _, stream := range []string{messaging.StreamState, messaging.StreamEvents} {
		requests = append(requests,
			"$JS.API.STREAM.INFO."+stream,
			"$JS.API.STREAM.MSG.GET."+stream,
			"$JS.API.DIRECT.GET."+stream,
			"$JS.API.DIRECT.GET."+stream+".>",
			"$JS.API.CONSUMER.CREATE."+stream,
			"$JS.API.CONSUMER.CREATE."+stream+".>",
			"$JS.API.CONSUMER.INFO."+stream+".*",
			"$JS.API.CONSUMER.MSG.NEXT."+stream+".*",
			"$JS.API.CONSUMER.DELETE."+stream+".*",
			"$JS.FC."+stream+".>",
		)
	}
	return requests
}
