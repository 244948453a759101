package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// attemptTime is how long one name server may take to answer, before the next one is asked.
	attemptTime = 2 * time.Second
	// forwardTime bounds a question with all its attempts: clients ask again after 5 s.
	forwardTime = 5 * time.Second
	// maxServers is how many name servers of a resolv.conf count, as for any resolver.
	maxServers = 3
)

// SystemServers are the name servers in a resolv.conf, those of the node itself. The file is read at each call: DHCP
// changes it. Without a file there is none.
func SystemServers(path string) func() ([]netip.AddrPort, error) {
	return func() ([]netip.AddrPort, error) {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return nameServers(string(text)), nil
	}
}

func nameServers(resolvConf string) (found []netip.AddrPort) {
	for line := range strings.Lines(resolvConf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(found) == maxServers {
			continue
		}
		if address, err := netip.ParseAddr(f[1]); err == nil {
			found = append(found, netip.AddrPortFrom(address, 53))
		}
	}
	return found
}

// errNoServers: a node without name servers knows the cluster's names only.
var errNoServers = errors.New("the node has no name server")

// forward asks the node's name servers one after the other and returns the first answer, with the packet's own id.
func (s *Server) forward(ctx context.Context, network string, packet []byte) ([]byte, error) {
	servers, err := s.options.Servers()
	if err != nil {
		return nil, fmt.Errorf("read name servers: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	problems := errNoServers
	for _, server := range servers {
		if server == s.options.Address {
			continue // ourselves
		}
		reply, err := exchange(ctx, network, server, packet)
		if err == nil {
			return reply, nil
		}
		if problems == errNoServers { //nolint:errorlint // the placeholder itself
			problems = nil
		}
		problems = errors.Join(problems, fmt.Errorf("name server %s: %w", server, err))
	}
	return nil, problems
}

// exchange sends a query from a fresh port with a fresh id, which an attacker would have to guess, and returns the answer
// to it.
func exchange(ctx context.Context, network string, server netip.AddrPort, packet []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	defer func() { _ = conn.Close() }() // nothing is left in it
	ask := append([]byte(nil), packet...)
	id := uint16(rand.Uint32()) //nolint:gosec // from ChaCha8, which is seeded by the system
	binary.BigEndian.PutUint16(ask, id)
	reply, err := roundTrip(conn, network, ask)
	if err != nil {
		return nil, err
	}
	copy(reply, packet[:2])
	return reply, nil
}

func roundTrip(conn net.Conn, network string, ask []byte) ([]byte, error) {
	if network == "tcp" {
		if err := writeFrame(conn, ask); err != nil {
			return nil, err
		}
		reply, err := readFrame(conn)
		if err == nil && !answers(reply, ask) {
			return nil, errors.New("answers another question")
		}
		return reply, err
	}
	if _, err := conn.Write(ask); err != nil {
		return nil, err
	}
	buf := make([]byte, packetBytes)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if n == len(buf) {
			return nil, fmt.Errorf("answer of %d bytes or more", n)
		}
		if answers(buf[:n], ask) { // others are not for us
			return buf[:n], nil
		}
	}
}

// answers reports whether a packet is the answer to a query: of its id and its question.
func answers(reply, ask []byte) bool {
	var p, q dnsmessage.Parser
	got, err := p.Start(reply)
	want, wantErr := q.Start(ask)
	if err != nil || wantErr != nil || !got.Response || got.ID != want.ID {
		return false
	}
	a, err := p.Question()
	b, wantErr := q.Question()
	return err == nil && wantErr == nil && a.Type == b.Type && a.Class == b.Class && strings.EqualFold(a.Name.String(), b.Name.String())
}

// readFrame reads one message as it goes over TCP: after two bytes of length.
func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeFrame(w io.Writer, message []byte) error {
	if len(message) > tcpLimit {
		return fmt.Errorf("message of %d bytes", len(message))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	_, err := w.Write(append(frame, message...))
	return err
}

// follow asks the node's name servers for the records of a name to which an alias of the cluster leads.
func (s *Server) follow(ctx context.Context, name dnsmessage.Name, of dnsmessage.Type) ([]dnsmessage.Resource, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: of, Class: dnsmessage.ClassINET}},
	}
	packet, err := m.Pack()
	if err != nil {
		return nil, err
	}
	reply, err := s.forward(ctx, "udp", packet)
	if err == nil && truncated(reply) {
		reply, err = s.forward(ctx, "tcp", packet)
	}
	if err != nil {
		return nil, err
	}
	return records(reply)
}

func truncated(reply []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	return err == nil && h.Truncated
}

// records are the answers in a reply. Those of types that are not known here are kept as they are.
func records(reply []byte) ([]dnsmessage.Resource, error) {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil {
		return nil, err
	}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return nil, fmt.Errorf("name server says %s", h.RCode)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	return p.AllAnswers()
}
