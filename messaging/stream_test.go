package messaging_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

func newSigner(t testing.TB) (*messaging.Signer, string) {
	t.Helper()
	seed, err := messaging.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := messaging.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	public, err := signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return signer, public
}

// ends opens a stream from the coordinator to node n1 and returns both ends.
func ends(t testing.TB, n *natstest.Net) (coordinator, node net.Conn) {
	t.Helper()
	signer, public := newSigner(t)
	nodeConn, core := n.NodeConn("n1"), n.Coordinator()
	accepted := make(chan net.Conn, 1)
	_, err := nodeConn.Subscribe(messaging.CommandSubject("n1", "open"), func(m *nats.Msg) {
		req, err := messaging.ParseOpenRequest(m, public)
		if err != nil {
			t.Error(err)
			return
		}
		conn, err := messaging.AcceptStream(nodeConn, m, req, "n1", messaging.NodeSide)
		if err != nil {
			t.Error(err)
			return
		}
		accepted <- conn
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nodeConn.Flush(); err != nil {
		t.Fatal(err)
	}
	coordinator, err = messaging.OpenStream(t.Context(), core, messaging.OpenParams{
		RequestSubject: messaging.CommandSubject("n1", "open"), Node: "n1", Kind: "exec", Sign: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	node = <-accepted
	t.Cleanup(func() { coordinator.Close(); node.Close() })
	return coordinator, node
}

type halfCloser interface{ CloseWrite() error }

func TestStreamCarriesMuchToASlowReader(t *testing.T) {
	coordinator, node := ends(t, natstest.Server(t))
	const size = 20 << 20
	data := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(data)
	go func() {
		if _, err := coordinator.Write(data); err != nil {
			t.Error(err)
		}
		if err := coordinator.(halfCloser).CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	sum, total := sha256.New(), 0
	small := make([]byte, 1000)
	for i := 0; ; i++ {
		buf := small
		if i%7 == 0 {
			buf = make([]byte, 300<<10)
		}
		n, err := node.Read(buf)
		sum.Write(buf[:n])
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := sha256.Sum256(data); total != size || !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Fatalf("got %d of %d bytes, or others", total, size)
	}
}

// A reader that does not read stops the writer after a window.
func TestStreamIsBounded(t *testing.T) {
	coordinator, node := ends(t, natstest.Server(t))
	if err := coordinator.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := coordinator.Write(make([]byte, 16<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > 1<<20 || n < 1<<19 {
		t.Fatalf("wrote %d bytes with nobody reading, error %v", n, err)
	}
	// Nothing is lost by a deadline: it goes on.
	if err := coordinator.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := coordinator.Write(make([]byte, 1<<20)); err != nil {
			t.Error(err)
		}
		coordinator.Close()
	}()
	if got, err := io.Copy(io.Discard, node); err != nil || got != int64(n)+1<<20 {
		t.Fatalf("read %d bytes, want %d; error %v", got, n+1<<20, err)
	}
}

func TestStreamEchoAndHalfClose(t *testing.T) {
	coordinator, node := ends(t, natstest.Server(t))
	go func() {
		io.Copy(node, node) // an error is seen by the other side
		node.(halfCloser).CloseWrite()
	}()
	b := make([]byte, 1)
	for i := range 100 {
		if _, err := coordinator.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(coordinator, b); err != nil || b[0] != byte(i) {
			t.Fatalf("echo %d: got %d, error %v", i, b[0], err)
		}
	}
	if err := coordinator.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := coordinator.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("after both are half-closed: %d bytes, error %v", n, err)
	}
	if _, err := coordinator.Write(b); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after CloseWrite: %v", err)
	}
}

func TestStreamClose(t *testing.T) {
	coordinator, node := ends(t, natstest.Server(t))
	if _, err := node.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	node.Close()
	if got, err := io.ReadAll(coordinator); string(got) != "last words" || err != nil {
		t.Fatalf("got %q, error %v", got, err)
	}
	if _, err := coordinator.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("write to a side that has closed: %v", err)
	}
	if _, err := node.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read after Close: %v", err)
	}
}

func TestStreamCloseEndsABlockedRead(t *testing.T) {
	coordinator, _ := ends(t, natstest.Server(t))
	got := make(chan error, 1)
	go func() {
		_, err := coordinator.Read(make([]byte, 1))
		got <- err
	}()
	coordinator.Close()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestStreamReadDeadline(t *testing.T) {
	coordinator, node := ends(t, natstest.Server(t))
	if err := coordinator.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := coordinator.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("got %v", err)
	}
	if err := coordinator.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := coordinator.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// Core NATS may lose a message: a gap must break the stream, never join what was apart.
func TestStreamGapResetsBothSides(t *testing.T) {
	n := natstest.Server(t)
	signer, public := newSigner(t)
	nodeConn, core := n.NodeConn("n1"), n.Coordinator()
	accepted := make(chan net.Conn, 1)
	session := make(chan string, 1)
	_, err := nodeConn.Subscribe(messaging.CommandSubject("n1", "open"), func(m *nats.Msg) {
		req, _ := messaging.ParseOpenRequest(m, public)
		conn, err := messaging.AcceptStream(nodeConn, m, req, "n1", messaging.NodeSide)
		if err != nil {
			t.Error(err)
		}
		session <- req.Session
		accepted <- conn
	})
	if err != nil {
		t.Fatal(err)
	}
	nodeConn.Flush()
	coordinator, err := messaging.OpenStream(t.Context(), core, messaging.OpenParams{
		RequestSubject: messaging.CommandSubject("n1", "open"), Node: "n1", Kind: "exec", Sign: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	node := <-accepted
	if _, err := coordinator.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	// A frame with number 3 where 2 is due.
	forged := []byte{1, 0, 0, 0, 3, 'x'}
	if err := core.Publish(messaging.StreamSubject("n1", <-session, "in"), forged); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(node)
	if string(got) != "one" || !errors.Is(err, messaging.ErrStreamReset) {
		t.Fatalf("node read %q, error %v", got, err)
	}
	if _, err := io.ReadAll(coordinator); !errors.Is(err, messaging.ErrStreamReset) || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("coordinator read error %v", err)
	}
	if _, err := node.Write([]byte("x")); !errors.Is(err, messaging.ErrStreamReset) {
		t.Fatalf("write after reset: %v", err)
	}
}

func TestStreamNoticesAVanishedPeer(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		coordinator, node := ends(t, n)
		time.Sleep(10 * time.Minute) // silence alone is no reason
		if _, err := node.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := coordinator.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		n.Cut("n1")
		start := time.Now()
		_, err := coordinator.Read(make([]byte, 1))
		if !errors.Is(err, messaging.ErrStreamReset) || time.Since(start) > 40*time.Second {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		if _, err = node.Read(make([]byte, 1)); !errors.Is(err, messaging.ErrStreamReset) {
			t.Fatalf("the other side: %v", err)
		}
		n.Heal("n1")
	})
}

// A short cut that costs no frame costs no stream; one that does breaks it.
func TestStreamOverAShortCut(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		coordinator, node := ends(t, n)
		n.Cut("n1")
		if _, err := coordinator.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n.Heal("n1")
		_, err := io.ReadAll(node)
		if !errors.Is(err, messaging.ErrStreamReset) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestStreamRefused(t *testing.T) {
	n := natstest.Server(t)
	signer, _ := newSigner(t)
	nodeConn := n.NodeConn("n1")
	_, err := nodeConn.Subscribe(messaging.CommandSubject("n1", "open"), func(m *nats.Msg) {
		if err := messaging.RefuseStream(m, "no such pod"); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	nodeConn.Flush()
	open := func(node string) error {
		_, err := messaging.OpenStream(t.Context(), n.Coordinator(), messaging.OpenParams{
			RequestSubject: messaging.CommandSubject(node, "open"), Node: node, Kind: "logs", Sign: signer,
		})
		return err
	}
	var refused *messaging.RefusedError
	if err := open("n1"); !errors.As(err, &refused) || refused.Reason != "no such pod" {
		t.Errorf("refused stream: %v", err)
	}
	if err := open("n2"); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("stream to a node that is not there: %v", err)
	}
}

// HTTP over streams, from a node to the coordinator, many at once: how nodes reach the registry.
func TestHTTPOverStreams(t *testing.T) {
	n := natstest.Server(t)
	listener, err := messaging.Listen(n.Coordinator(), "registry")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr+" "+r.URL.Path+" ")
		w.Write(bytes.Repeat([]byte("x"), 1<<20))
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	nc := n.NodeConn("n1")
	client := http.Client{Transport: &http.Transport{DialContext: messaging.DialContext(nc, "n1", "registry")}}
	defer client.CloseIdleConnections()
	results := make(chan error, 8)
	for range cap(results) {
		go func() { results <- get(&client) }()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if _, err := messaging.DialContext(nc, "n1", "teapot")(t.Context(), "tcp", "x:80"); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("kind that nobody serves: %v", err)
	}
	server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serve: %v", err)
	}
}

func get(client *http.Client) error {
	resp, err := client.Get("http://registry.skerry/v2/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if want := "n1 /v2/ "; !strings.HasPrefix(string(body), want) || len(body) != len(want)+1<<20 {
		return errors.New("got " + string(body[:min(len(body), 40)]))
	}
	return nil
}

func BenchmarkStream(b *testing.B) {
	coordinator, node := ends(b, natstest.Server(b))
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	go func() {
		for {
			if _, err := coordinator.Write(chunk); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, len(chunk))
	for b.Loop() {
		if _, err := io.ReadFull(node, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStreamEcho(b *testing.B) {
	coordinator, node := ends(b, natstest.Server(b))
	go io.Copy(node, node) // ends with the benchmark
	buf := make([]byte, 1)
	for b.Loop() {
		if _, err := coordinator.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(coordinator, buf); err != nil {
			b.Fatal(err)
		}
	}
}
