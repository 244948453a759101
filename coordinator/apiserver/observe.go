package apiserver

import "strings"

// Observer counts requests.
type Observer interface {
	// Begin says that a request is under way; end must be called with the code of its answer.
	Begin(r Request) (end func(code int))
}

// Request is what a request is for, in the words of upstream's metrics. Requests for what is not served have neither verb
// nor resource, so that there are no more different ones than the table of kinds allows.
type Request struct {
	Verb, Group, Version, Resource, Subresource string
	Scope                                       string // resource, namespace or cluster
	Stream                                      bool   // its duration is its client's affair
}

type noObserver struct{}

// Begin implements Observer.
func (noObserver) Begin(Request) func(int) { return func(int) {} }

// observed is a call that is served as it is counted.
func (c *call) observed() Request {
	return Request{
		Verb: c.countedVerb(), Group: c.group, Version: c.version, Resource: c.plural, Subresource: c.subresource,
		Scope: c.countedScope(), Stream: c.streams(),
	}
}

// streams reports whether the call lasts as long as its client likes.
func (c *call) streams() bool {
	return c.verb == "watch" || c.subresource == "log" || c.connects() || c.proxies()
}

func (c *call) countedVerb() string {
	if c.connects() || c.proxies() {
		return "CONNECT"
	}
	switch c.verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	}
	return strings.ToUpper(c.verb)
}

func (c *call) countedScope() string {
	switch {
	case c.name != "" || c.verb == "create":
		return "resource"
	case c.namespace != "":
		return "namespace"
	}
	return "cluster"
}

// Load is what the server holds now.
type Load struct {
	Connections, MaxConnections, Requests, Watches int
	BodyBytes                                      int64
}

// Load may be asked at any time.
func (s *Server) Load() Load {
	return Load{
		Connections: s.connections.count(), MaxConnections: s.connections.limit, Requests: s.inFlight.Count(),
		Watches: s.watches.Count(), BodyBytes: s.bodies.taken.Load(),
	}
}
