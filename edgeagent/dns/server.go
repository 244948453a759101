package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/messaging"
)

const (
	// maxWaiting questions wait for the node's name servers at once; more are answered with SERVFAIL.
	maxWaiting = 256
	// maxConnections over TCP are served at once; more are closed.
	maxConnections = 64
	// connectionIdle is how long a client may keep a connection without a question.
	connectionIdle = 10 * time.Second
	// maxAliases is how far a chain of ExternalName services is followed.
	maxAliases = 8
	// longestWait is between two attempts to listen.
	longestWait = 30 * time.Second
)

// Options are what a Server needs. All must be set.
type Options struct {
	Address netip.AddrPort                   // where pods ask; need not be on a link yet
	Admit   func(netip.Addr) bool            // who may ask, on top of the kernel's rules
	Servers func() ([]netip.AddrPort, error) // who is asked for names outside the cluster
	Log     *slog.Logger
}

// Server answers a node's pods. Use New, Apply and Run.
type Server struct {
	options     Options
	log         *slog.Logger
	zone        atomic.Pointer[Zone]
	waiting     chan struct{} // a token for each question that others are asked
	connections chan struct{}
}

// New makes a server that does nothing before Run, and knows nothing before Apply.
func New(o Options) (*Server, error) {
	if !o.Address.IsValid() || o.Admit == nil || o.Servers == nil || o.Log == nil {
		return nil, errors.New("name server: address, Admit, Servers and Log must be set")
	}
	return &Server{
		options: o, log: o.Log, waiting: make(chan struct{}, maxWaiting), connections: make(chan struct{}, maxConnections),
	}, nil
}

// Apply makes the server answer from a table.
func (s *Server) Apply(table messaging.ServiceTable) { s.zone.Store(NewZone(table)) }

// Run answers until ctx ends. An address that is taken is tried again and again: a node without names runs its pods all
// the same.
func (s *Server) Run(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, longestWait) {
		err := s.listen(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("pods cannot ask for names, will retry", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (s *Server) listen(ctx context.Context) error {
	config := network.EarlyListener()
	packets, err := config.ListenPacket(ctx, "udp4", s.options.Address.String())
	if err != nil {
		return fmt.Errorf("listen for pods: %w", err)
	}
	streams, err := config.Listen(ctx, "tcp4", packets.LocalAddr().String())
	if err != nil {
		return errors.Join(fmt.Errorf("listen for pods: %w", err), packets.Close())
	}
	s.log.Info("pods are told names", "address", packets.LocalAddr().String())
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = errors.Join(packets.Close(), streams.Close()) })() // reads return
	g.Go(func() error { return s.servePackets(ctx, packets) })
	g.Go(func() error { return s.serveStreams(ctx, streams) })
	return g.Wait()
}

func (s *Server) servePackets(ctx context.Context, conn net.PacketConn) error {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	buf := make([]byte, packetBytes)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("read questions: %w", err)
		}
		if !s.options.Admit(addressOf(from)) {
			continue
		}
		reply, later := s.answer(ctx, "udp", append([]byte(nil), buf[:n]...))
		if later == nil {
			sendTo(conn, from, reply)
			continue
		}
		waiting.Go(func() { sendTo(conn, from, later()) })
	}
}

// sendTo sends an answer, if there is one. One that is lost is asked for again.
func sendTo(conn net.PacketConn, to net.Addr, reply []byte) {
	if reply != nil {
		_, _ = conn.WriteTo(reply, to)
	}
}

func addressOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (s *Server) serveStreams(ctx context.Context, ln net.Listener) error {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accept questions: %w", err)
		}
		select {
		case s.connections <- struct{}{}:
		default:
			_ = conn.Close() // one too many
			continue
		}
		open.Go(func() {
			defer func() { <-s.connections }()
			s.serveStream(ctx, conn)
		})
	}
}

// serveStream answers one question after the other.
func (s *Server) serveStream(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }() // what was answered is written
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if !s.options.Admit(addressOf(conn.RemoteAddr())) {
		return
	}
	for {
		if err := conn.SetDeadline(time.Now().Add(connectionIdle)); err != nil {
			return
		}
		packet, err := readFrame(conn)
		if err != nil {
			return
		}
		reply, later := s.answer(ctx, "tcp", packet)
		if later != nil {
			reply = later()
		}
		if reply == nil || writeFrame(conn, reply) != nil {
			return
		}
	}
}

// answer gives the answer to a packet, nil where none is due, or what finds it out from others and may take its time.
func (s *Server) answer(ctx context.Context, network string, packet []byte) (reply []byte, later func() []byte) {
	q, err := parse(packet)
	switch {
	case errors.Is(err, errNoQuery):
		return nil, nil
	case err != nil:
		return s.refuse(&q, network, dnsmessage.RCodeFormatError), nil
	case q.header.OpCode != 0:
		return s.refuse(&q, network, dnsmessage.RCodeNotImplemented), nil
	}
	zone := s.zone.Load()
	if zone == nil && unknown.Owns(q.name) { // silence is no answer
		return s.refuse(&q, network, dnsmessage.RCodeServerFailure), nil
	}
	if zone == nil || !zone.Owns(q.name) {
		return s.ask(&q, network, func() ([]byte, error) { return s.forward(ctx, network, packet) })
	}
	a, leads := zone.answer(&q)
	if leads == nil {
		return s.pack(&q, network, a), nil
	}
	return s.ask(&q, network, func() ([]byte, error) {
		found, err := s.follow(ctx, *leads, q.question.Type)
		a.records = append(a.records, found...)
		return s.pack(&q, network, a), err
	})
}

// unknown is the zone before there is a table.
var unknown = NewZone(messaging.ServiceTable{})

// ask returns what calls others, unless too many wait for them.
func (s *Server) ask(q *query, network string, others func() ([]byte, error)) (reply []byte, later func() []byte) {
	select {
	case s.waiting <- struct{}{}:
	default:
		return s.refuse(q, network, dnsmessage.RCodeServerFailure), nil
	}
	return nil, func() []byte {
		defer func() { <-s.waiting }()
		reply, err := others()
		if err != nil {
			s.log.Debug("name not found out", "name", q.name, "err", err)
			return s.refuse(q, network, dnsmessage.RCodeServerFailure)
		}
		return reply
	}
}

func (s *Server) refuse(q *query, network string, code dnsmessage.RCode) []byte {
	return s.pack(q, network, answer{code: code})
}

func (s *Server) pack(q *query, network string, a answer) []byte {
	limit := q.size
	if network == "tcp" {
		limit = tcpLimit
	}
	packed, err := q.pack(a, limit)
	if err != nil {
		s.log.Debug("answer not packed", "name", q.name, "err", err)
	}
	return packed
}

// answer is what the zone says to a query for a name that it owns. When an alias leads out of the zone, leads is where to,
// and the records of that name are to be added.
func (z *Zone) answer(q *query) (a answer, leads *dnsmessage.Name) {
	a.authoritative = true
	owner, name := q.question.Name, q.name
	if q.question.Class != dnsmessage.ClassINET && q.question.Class != dnsmessage.ClassANY {
		return a, nil
	}
	for range maxAliases {
		found, exists := z.Lookup(name, q.question.Type)
		if !exists {
			a.code = dnsmessage.RCodeNameError
			return a, nil
		}
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] }) // spreads clients that take the first
		for _, body := range found {
			h := dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: ttl}
			a.records = append(a.records, dnsmessage.Resource{Header: h, Body: body})
		}
		alias := aliasIn(found)
		if alias == nil || q.question.Type == dnsmessage.TypeCNAME {
			return a, nil
		}
		owner, name = *alias, alias.String()
		if !z.Owns(name) {
			return a, alias
		}
	}
	return answer{code: dnsmessage.RCodeServerFailure}, nil // a circle
}

func aliasIn(records []dnsmessage.ResourceBody) *dnsmessage.Name {
	if len(records) == 1 {
		if c, ok := records[0].(*dnsmessage.CNAMEResource); ok {
			return &c.CNAME
		}
	}
	return nil
}
