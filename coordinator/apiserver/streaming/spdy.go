package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"skerry.dev/skerry/messaging/channels"
)

const (
	// idleLimit ends a SPDY connection on which nothing moves. It is the kubelet's.
	idleLimit = 4 * time.Hour
	// createLimit is how long a client may take to create the streams of a session or connection. It is the kubelet's.
	createLimit = 30 * time.Second
)

// spdyProtocolV4 is what every client since Kubernetes 1.4 speaks in a session over SPDY.
const spdyProtocolV4 = "v4.channel.k8s.io"

// Types of streams, named by a header.
const (
	typeHeader = "streamType"
	typeStdin  = "stdin"
	typeStdout = "stdout"
	typeStderr = "stderr"
	typeResize = "resize"
	typeError  = "error"
	typeData   = "data"
)

var errStream = errors.New("stream is not expected")

// link is a SPDY connection that can be closed for good: the library alone waits for a client that does not read.
type link struct {
	httpstream.Connection
	raw    *guarded
	closed sync.Once
}

// newLink serves SPDY on raw; take is called for each new stream and must not block.
func newLink(raw *guarded, take httpstream.NewStreamHandler) (*link, error) {
	conn, err := spdy.NewServerConnection(raw, take)
	if err != nil {
		return nil, err // raw is closed
	}
	conn.SetIdleTimeout(idleLimit)
	return &link{Connection: conn, raw: raw}, nil
}

func (l *link) close() {
	l.closed.Do(func() {
		_ = l.raw.Close() // ends all that waits for the network
		_ = l.Close()     // ends all that waits for a stream
	})
}

// works reports whether streams that were replied to can be written to. Where the reply could not be sent, the library
// would let a writer wait for ever.
func (l *link) works() bool {
	select {
	case <-l.CloseChan():
		return false
	default:
		return !l.raw.broken.Load()
	}
}

// arrival is a stream that a client has created. It may be written to when replied is closed and the link works.
type arrival struct {
	kind    string
	stream  httpstream.Stream
	replied <-chan struct{}
}

// spdyClient is a client with one SPDY stream per channel.
type spdyClient struct {
	*link
	streams map[string]httpstream.Stream
}

func acceptSPDY(ctx context.Context, w http.ResponseWriter, r *http.Request, want Want) (client, error) {
	raw, err := upgradeSPDY(w, r, spdyProtocolV4)
	if err != nil {
		return nil, err
	}
	expected := want.streams()
	n := len(expected)
	arrivals := make(chan arrival, n) // each once
	l, err := newLink(raw, collector(expected, arrivals))
	if err != nil {
		return nil, nil //nolint:nilerr // the answer is on its way; all that can be done is to close, which it is
	}
	c := &spdyClient{link: l, streams: map[string]httpstream.Stream{}}
	if !c.collect(ctx, n, arrivals) {
		c.close()
		return nil, nil
	}
	return c, nil
}

// streams are the types of streams that the client will create.
func (w Want) streams() map[string]bool {
	out := map[string]bool{typeError: true}
	for name, wanted := range map[string]bool{typeStdin: w.Stdin, typeStdout: w.Stdout, typeStderr: w.Stderr, typeResize: w.TTY} {
		if wanted {
			out[name] = true
		}
	}
	return out
}

// collector takes each expected stream once and refuses all others.
func collector(expected map[string]bool, arrivals chan<- arrival) httpstream.NewStreamHandler {
	var mu sync.Mutex // guards expected
	return func(s httpstream.Stream, replied <-chan struct{}) error {
		mu.Lock()
		defer mu.Unlock()
		kind := s.Headers().Get(typeHeader)
		if !expected[kind] {
			return fmt.Errorf("%w: type %.80q", errStream, kind)
		}
		delete(expected, kind)
		arrivals <- arrival{kind, s, replied}
		return nil
	}
}

// collect waits for n streams.
func (c *spdyClient) collect(ctx context.Context, n int, arrivals <-chan arrival) bool {
	limit := time.NewTimer(createLimit)
	defer limit.Stop()
	for len(c.streams) < n {
		select {
		case a := <-arrivals:
			<-a.replied // at once
			c.streams[a.kind] = a.stream
		case <-c.CloseChan():
			return false
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return c.works()
}

func (c *spdyClient) input(w *channels.Writer) {
	var copies sync.WaitGroup
	if in := c.streams[typeStdin]; in != nil {
		copies.Go(func() { copyStdin(w, in) })
	}
	if in := c.streams[typeResize]; in != nil {
		copies.Go(func() { copySizes(w, in) })
	}
	<-c.CloseChan()
	copies.Wait() // the streams end with the connection
}

// copyStdin reads to the end of the stream: what is not read would block the other streams.
func copyStdin(w *channels.Writer, in io.Reader) {
	buf := make([]byte, pieceBytes)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			_ = w.Send(channels.Stdin, buf[:n]) // the reader of the other direction learns of it
		}
		if err != nil {
			_ = w.SendClose(channels.Stdin) // as above
			return
		}
	}
}

func copySizes(w *channels.Writer, in io.Reader) {
	for sizes := json.NewDecoder(in); ; {
		var size channels.Size
		if sizes.Decode(&size) != nil {
			_, _ = io.Copy(io.Discard, in) // as in copyStdin
			return
		}
		_ = w.SendSize(size) // the reader of the other direction learns of it
	}
}

func (c *spdyClient) output(channel byte, payload []byte) error {
	name := typeStdout
	if channel == channels.Stderr {
		name = typeStderr
	}
	_, err := c.streams[name].Write(payload)
	return err
}

// sign does nothing: the library answers pings whatever is read, and has none that do not wait for an answer.
func (c *spdyClient) sign() error { return nil }

func (c *spdyClient) end(status *metav1.Status) {
	if data, err := json.Marshal(status); err == nil {
		_, _ = c.streams[typeError].Write(data) // or the client is gone
	}
	_ = c.Close() // ends the streams in order; the client then closes the connection
}
