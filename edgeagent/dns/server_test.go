package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"skerry.dev/skerry/messaging"
)

// world is a server with a node's name server behind it, and Go's own resolver as its client.
type world struct {
	*net.Resolver
	server *Server
}

func newWorld(t *testing.T, servers ...netip.AddrPort) *world {
	t.Helper()
	s, err := New(Options{
		Address: freePort(t), Admit: netip.Addr.IsLoopback, Log: slog.New(slog.DiscardHandler),
		Servers: func() ([]netip.AddrPort, error) { return servers, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	w := &world{server: s, Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.options.Address.String())
	}}}
	waitForListener(t, s.options.Address)
	return w
}

func run(t *testing.T, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- do(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // it was open
	return netip.MustParseAddrPort(ln.Addr().String())
}

// waitForListener: TCP comes last.
func waitForListener(t *testing.T, address netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp4", address.String())
		if err == nil {
			_ = conn.Close() // nothing was said
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// elsewhere is a name server that knows two names, of one and of 200 addresses.
func elsewhere(t *testing.T) netip.AddrPort {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp4", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = errors.Join(packets.Close(), streams.Close()) })()
		var both sync.WaitGroup
		both.Go(func() {
			buf := make([]byte, packetBytes)
			for {
				n, from, err := packets.ReadFrom(buf)
				if err != nil {
					return
				}
				sendTo(packets, from, knows(buf[:n], "udp"))
			}
		})
		both.Go(func() {
			for {
				conn, err := streams.Accept()
				if err != nil {
					return
				}
				if packet, err := readFrame(conn); err == nil {
					_ = writeFrame(conn, knows(packet, "tcp")) // the client says what it misses
				}
				_ = conn.Close()
			}
		})
		both.Wait()
		return ctx.Err()
	})
	return netip.MustParseAddrPort(packets.LocalAddr().String())
}

func knows(packet []byte, network string) []byte {
	q, err := parse(packet)
	if err != nil {
		return nil
	}
	count := map[string]int{"mail.example.com.": 1, "big.example.com.": 200}[q.name]
	a := answer{code: dnsmessage.RCodeNameError}
	for i := range count {
		a.code = dnsmessage.RCodeSuccess
		if q.question.Type == dnsmessage.TypeA {
			h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: 60}
			a.records = append(a.records, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(i + 1)}}})
		}
	}
	limit := q.size
	if network == "tcp" {
		limit = tcpLimit
	}
	reply, err := q.pack(a, limit)
	if err != nil {
		return nil
	}
	return reply
}

func TestNamesOfTheCluster(t *testing.T) {
	w := newWorld(t)
	w.server.Apply(shop())
	ctx := t.Context()
	if got, err := w.LookupHost(ctx, "web.shop.svc.cluster.local."); err != nil || !slices.Equal(got, []string{"10.43.0.7"}) {
		t.Errorf("web: %v, %v", got, err)
	}
	if got, err := w.LookupHost(ctx, "WEB.Shop.svc.cluster.local."); err != nil || !slices.Equal(got, []string{"10.43.0.7"}) {
		t.Errorf("in capitals: %v, %v", got, err)
	}
	if got, err := w.LookupHost(ctx, "nick.shop.svc.cluster.local."); err != nil || !slices.Equal(got, []string{"10.43.0.7"}) {
		t.Errorf("alias: %v, %v", got, err)
	}
	if _, got, err := w.LookupSRV(ctx, "sql", "tcp", "db.shop.svc.cluster.local."); err != nil || len(got) != 2 {
		t.Errorf("srv: %v, %v", got, err)
	}
	if got, err := w.LookupAddr(ctx, "10.43.0.7"); err != nil || !slices.Equal(got, []string{"web.shop.svc.cluster.local."}) {
		t.Errorf("pointer: %v, %v", got, err)
	}
	for _, name := range []string{"none.shop.svc.cluster.local.", "nobody.shop.svc.cluster.local."} {
		if _, err := w.LookupHost(ctx, name); !isNotFound(err) {
			t.Errorf("%s: %v, want no such host", name, err)
		}
	}
	if _, err := w.LookupHost(ctx, "ring.shop.svc.cluster.local."); err == nil || isNotFound(err) {
		t.Errorf("circle: %v, want a failure", err)
	}
}

func isNotFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// TestManyEndpoints: an answer that is too long for UDP is fetched over TCP.
func TestManyEndpoints(t *testing.T) {
	w := newWorld(t)
	table := shop()
	var hosts []messaging.Host
	for i := range 500 {
		hosts = append(hosts, messaging.Host{IP: fmt.Sprintf("10.42.%d.%d", i/250, i%250+1)})
	}
	table.Names = append(table.Names, messaging.ServiceName{Namespace: "shop", Name: "many", Hosts: hosts})
	w.server.Apply(table)
	if got, err := w.LookupHost(t.Context(), "many.shop.svc.cluster.local."); err != nil || len(got) != 500 {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

func TestNamesOfOthers(t *testing.T) {
	dead := freePort(t) // the first name server does not answer: its port is closed
	w := newWorld(t, dead, elsewhere(t))
	w.server.Apply(shop())
	ctx := t.Context()
	for name, want := range map[string]int{"mail.example.com.": 1, "big.example.com.": 200, "mail.shop.svc.cluster.local.": 1} {
		if got, err := w.LookupHost(ctx, name); err != nil || len(got) != want || !strings.HasPrefix(got[0], "192.0.2.") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := w.LookupHost(ctx, "nowhere.example.com."); !isNotFound(err) {
		t.Errorf("nowhere: %v, want no such host", err)
	}
}

// TestSilence: without a table nothing is said about the cluster's names, and without name servers nothing about others'.
func TestSilence(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"web.shop.svc.cluster.local.", "example.com."} {
		if _, err := w.LookupHost(t.Context(), name); err == nil || isNotFound(err) {
			t.Errorf("%s: %v, want a failure that is not final", name, err)
		}
	}
	w.server.Apply(shop())
	if _, err := w.LookupHost(t.Context(), "web.shop.svc.cluster.local."); err != nil {
		t.Errorf("after the table: %v", err)
	}
}

// TestGarbage: what is no query gets no answer, and what is a bad one an error; the server lives.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	w.server.Apply(shop())
	ctx := t.Context()
	ask := question("web.shop.svc.cluster.local.", dnsmessage.TypeA)
	ask.Questions = append(ask.Questions, ask.Questions[0])
	two := mustPack(t, ask)
	reply := mustPack(t, &dnsmessage.Message{Header: dnsmessage.Header{Response: true}})
	update := mustPack(t, &dnsmessage.Message{Header: dnsmessage.Header{ID: 9, OpCode: 5}, Questions: ask.Questions[:1]})
	for name, test := range map[string]struct {
		packet []byte
		want   string
	}{
		"empty": {nil, ""}, "short": {[]byte{1, 2, 3}, ""}, "a reply": {reply, ""},
		"two questions": {two, dnsmessage.RCodeFormatError.String()}, "cut": {two[:20], dnsmessage.RCodeFormatError.String()},
		"update": {update, dnsmessage.RCodeNotImplemented.String()},
	} {
		got, later := w.server.answer(ctx, "udp", test.packet)
		if code := codeOf(t, got); code != test.want || later != nil {
			t.Errorf("%s: %q, want %q", name, code, test.want)
		}
	}
}

func codeOf(t *testing.T, packet []byte) string {
	t.Helper()
	if packet == nil {
		return ""
	}
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil {
		t.Fatal(err)
	}
	return h.RCode.String()
}

func mustPack(t *testing.T, m *dnsmessage.Message) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestNameServers(t *testing.T) {
	got := nameServers("# comment\nnameserver 192.0.2.1\nsearch lan\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n")
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"), netip.MustParseAddrPort("192.0.2.2:53")}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, err := SystemServers(t.TempDir() + "/absent")(); err != nil || got != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}
