package streaming

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	protocolHeader = "X-Stream-Protocol-Version"
	spdyProtocol   = "SPDY/3.1"
)

var errNoUpgrade = apierrors.NewBadRequest("Upgrade request required: this is only served over websockets and SPDY, on HTTP/1.1")

// wants reports whether the request asks to be upgraded to protocol.
func wants(r *http.Request, protocol string) bool {
	return r.ProtoMajor == 1 && strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), protocol)
}

// upgradeSPDY answers 101 and takes the connection over; offered are subprotocols in the order of preference.
func upgradeSPDY(w http.ResponseWriter, r *http.Request, offered ...string) (*guarded, error) {
	if !wants(r, spdyProtocol) {
		return nil, errNoUpgrade
	}
	var asked []string
	for _, h := range r.Header.Values(protocolHeader) {
		for p := range strings.SplitSeq(h, ",") {
			asked = append(asked, strings.TrimSpace(p))
		}
	}
	for _, p := range offered {
		if slices.Contains(asked, p) {
			return takeOver(w, p)
		}
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("none of the stream protocols %q is served, only %q", asked, offered))
}

func takeOver(w http.ResponseWriter, protocol string) (*guarded, error) {
	h := w.Header()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", spdyProtocol)
	h.Set(protocolHeader, protocol)
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take connection over: %w", err)
	}
	return guard(conn, buffered.Reader), nil
}

const (
	// maxFrameBytes is the largest SPDY frame that is taken. Clients cut at 32 KiB; the SPDY library would hold a queue of
	// frames of 16 MiB each for whoever sends them.
	maxFrameBytes = 1 << 20
	frameHeader   = 8
)

var errFrameSize = errors.New("SPDY frame is too large")

// guarded is a connection on which SPDY frames arrive, cut off at the first that is too large. It remembers that writing
// failed. Read is for one goroutine.
type guarded struct {
	net.Conn
	in     *bufio.Reader
	left   int // bytes of the present frame
	header [frameHeader]byte
	given  int // bytes of header that were read by the caller
	broken atomic.Bool
}

// guard reads from in, which reads from conn.
func guard(conn net.Conn, in *bufio.Reader) *guarded {
	return &guarded{Conn: conn, in: in}
}

// Read implements net.Conn.
func (g *guarded) Read(b []byte) (int, error) {
	if g.left == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	b = b[:min(len(b), g.left)]
	if g.given < frameHeader {
		n := copy(b, g.header[g.given:])
		g.given += n
		g.left -= n
		return n, nil
	}
	n, err := g.in.Read(b)
	g.left -= n
	return n, err
}

// next reads the header of a frame: 4 bytes of what it is, 1 of flags, 3 of length.
func (g *guarded) next() error {
	for n := 0; n < frameHeader; {
		m, err := g.in.Read(g.header[n:])
		if n += m; err != nil {
			return err
		}
	}
	length := int(binary.BigEndian.Uint32(g.header[4:]) & 0xffffff)
	if length > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes", errFrameSize, length)
	}
	g.given, g.left = 0, frameHeader+length
	return nil
}

// Write implements net.Conn.
func (g *guarded) Write(b []byte) (int, error) {
	n, err := g.Conn.Write(b)
	if err != nil {
		g.broken.Store(true)
	}
	return n, err
}
