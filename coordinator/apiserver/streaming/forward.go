package streaming

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/streaming/pkg/httpstream"
)

const (
	forwardProtocol = "portforward.k8s.io"
	tunnelProtocol  = spdyProtocol + "+" + forwardProtocol

	portHeader    = "port"
	requestHeader = "requestID"
)

// maxForwards is how many connections one client may have open at once: each costs a stream to the node.
const maxForwards = 512

// Forward upgrades the request, for SPDY or SPDY through a websocket, and connects each pair of streams that its client
// creates to what dial reaches at a port, until the client or ctx ends. An error of dial is shown to the client. Forward
// returns an error when the request cannot be upgraded and nothing was answered.
func Forward(ctx context.Context, w http.ResponseWriter, r *http.Request, dial func(ctx context.Context, port uint16) (net.Conn, error)) error {
	raw, err := upgradeForward(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &forwards{ctx: ctx, dial: dial, pairs: map[string]*pair{}, linked: make(chan struct{})}
	if f.link, err = newLink(raw, f.take); err != nil {
		return nil //nolint:nilerr // the answer is on its way; all that can be done is to close, which it is
	}
	close(f.linked)
	stop := context.AfterFunc(ctx, f.link.close)
	defer stop()
	<-f.link.CloseChan()
	cancel()
	f.link.close()
	f.end()
	return nil
}

func upgradeForward(w http.ResponseWriter, r *http.Request) (*guarded, error) {
	if !wants(r, "websocket") {
		return upgradeSPDY(w, r, forwardProtocol)
	}
	conn, err := upgradeWebsocket(w, r, tunnelProtocol)
	if err != nil {
		return nil, err
	}
	t := &tunnel{Conn: conn}
	return guard(t, bufio.NewReader(t)), nil
}

// forwards are the connections of one client.
type forwards struct {
	ctx    context.Context //nolint:containedctx // of the request, for streams that the SPDY library hands over
	dial   func(ctx context.Context, port uint16) (net.Conn, error)
	linked chan struct{} // closed when link is set
	link   *link

	mu    sync.Mutex
	pairs map[string]*pair // by request; nil when all is over
	work  sync.WaitGroup   // one for each pair
}

// pair is one connection: its data, and how it failed.
type pair struct {
	request     string
	port        uint16
	data, fault *arrival
	complete    chan struct{}
}

// take is called for each new stream.
func (f *forwards) take(s httpstream.Stream, replied <-chan struct{}) error {
	a := arrival{s.Headers().Get(typeHeader), s, replied}
	port, err := strconv.ParseUint(s.Headers().Get(portHeader), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("%w: port %.80q is not a number from 1 to 65535", errStream, s.Headers().Get(portHeader))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.pair(requestOf(a), uint16(port))
	if err != nil {
		return err
	}
	return p.add(a)
}

// requestOf names the connection that a stream belongs to. Clients older than the header create the stream of the error
// and then that of the data, whose number is two more.
func requestOf(a arrival) string {
	if id := a.stream.Headers().Get(requestHeader); id != "" {
		return id
	}
	n := a.stream.Identifier()
	if a.kind == typeData {
		n -= 2
	}
	return "#" + strconv.FormatUint(uint64(n), 10)
}

// pair finds a connection or begins one. The caller holds the lock.
func (f *forwards) pair(request string, port uint16) (*pair, error) {
	if p, ok := f.pairs[request]; ok {
		return p, nil
	}
	switch {
	case f.pairs == nil:
		return nil, fmt.Errorf("%w: the connection is closing", errStream)
	case len(f.pairs) == maxForwards:
		return nil, fmt.Errorf("%w: %d connections are open already", errStream, maxForwards)
	}
	p := &pair{request: request, port: port, complete: make(chan struct{})}
	f.pairs[request] = p
	f.work.Go(func() {
		<-f.linked
		f.serve(p)
		f.remove(p)
	})
	return p, nil
}

func (p *pair) add(a arrival) error {
	field := &p.data
	if a.kind == typeError {
		field = &p.fault
	}
	if a.kind != typeError && a.kind != typeData || *field != nil {
		return fmt.Errorf("%w: type %.80q for request %.80q", errStream, a.kind, p.request)
	}
	*field = &a
	if p.data != nil && p.fault != nil {
		close(p.complete)
	}
	return nil
}

// remove forgets a connection and whatever streams it has.
func (f *forwards) remove(p *pair) {
	f.mu.Lock()
	delete(f.pairs, p.request)
	arrivals := []*arrival{p.data, p.fault}
	f.mu.Unlock()
	for _, a := range arrivals {
		if a != nil {
			f.link.RemoveStreams(a.stream)
			_ = a.stream.Reset() // the client may be gone
		}
	}
}

// end waits for all connections; no new ones begin.
func (f *forwards) end() {
	f.mu.Lock()
	f.pairs = nil
	f.mu.Unlock()
	f.work.Wait()
}

func (f *forwards) serve(p *pair) {
	limit := time.NewTimer(createLimit)
	defer limit.Stop()
	select {
	case <-p.complete:
	case <-limit.C:
		return
	case <-f.ctx.Done():
		return
	}
	<-p.data.replied // at once
	<-p.fault.replied
	if !f.link.works() {
		return
	}
	if err := f.connect(p); err != nil && f.ctx.Err() == nil {
		_, _ = fmt.Fprintf(p.fault.stream, "error forwarding port %d: %v", p.port, err) // or the client is gone
	}
}

// connect carries one connection. When one side has ended, the other gets a moment to end too: a client that has closed its
// connection while the pod still sends looks like one that only has no more to say.
func (f *forwards) connect(p *pair) error {
	node, err := f.dial(f.ctx, p.port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(f.ctx, func() { _ = node.Close() })
	defer stop()
	up := make(chan struct{})
	go func() { // ends with the stream, which is reset below
		defer close(up)
		sendUp(node, p.data.stream)
		time.AfterFunc(lingerTime, func() { _ = node.Close() })
	}()
	if err = sendDown(p.data.stream, node); err == nil {
		_ = p.fault.stream.Close() // no error: this is what old clients wait for
		linger := time.NewTimer(lingerTime)
		defer linger.Stop()
		select {
		case <-up:
		case <-linger.C:
		}
	}
	_ = node.Close()          // nothing more will come
	_ = p.data.stream.Reset() // the client may be gone
	<-up
	return err
}

// sendUp carries what the client sends, and its end. What the node does not take is dropped: unread, it would block the
// other streams.
func sendUp(node net.Conn, data io.Reader) {
	if _, err := io.Copy(node, data); err != nil {
		_, _ = io.Copy(io.Discard, data)
		return
	}
	if half, ok := node.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the reader of the other direction learns of it
	}
}

// sendDown carries what comes from the pod, and its end.
func sendDown(data httpstream.Stream, node io.Reader) error {
	buf := make([]byte, pieceBytes)
	for {
		n, err := node.Read(buf)
		if n > 0 {
			if _, werr := data.Write(buf[:n]); werr != nil {
				return nil //nolint:nilerr // the client is gone: nobody is left to be told
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = data.Close() // the client may be gone
			return nil
		case errors.Is(err, net.ErrClosed): // by us
			return nil
		case err != nil:
			return fmt.Errorf("the connection to the node was lost: %w", err)
		}
	}
}
