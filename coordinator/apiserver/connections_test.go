package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver"
)

// idlersURL, in the environment of this test program, makes it a client with idle connections instead.
const idlersURL = "SKERRY_TEST_IDLERS"

func TestMain(m *testing.M) {
	if url := os.Getenv(idlersURL); url != "" {
		if err := idle(strings.TrimPrefix(url, "https://")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// idle opens connections, makes a request on each, says "ready", and keeps them until its input ends.
func idle(address string) error {
	n, err := strconv.Atoi(os.Getenv("SKERRY_TEST_COUNT"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(os.Getenv("SKERRY_TEST_CA")))
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range n {
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		code, _, err := answerOn(bufio.NewReader(conn))
		if err != nil || code != 200 {
			return fmt.Errorf("answer %d: %w", code, err)
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// idlers starts another process with n idle connections, and returns what ends it.
func (c *cluster) idlers(n int) (end func()) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), idlersURL+"="+c.url, "SKERRY_TEST_COUNT="+strconv.Itoa(n), "SKERRY_TEST_CA="+string(c.ca.pem))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(c.t, err)
	out, err := cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		c.t.Fatalf("idle clients say %q, %v", line, err)
	}
	return func() {
		in.Close()
		must(c.t, cmd.Wait())
	}
}

// answerOn reads an answer whose body ends with the connection at the latest: nobody closes it, which would wait for that.
func answerOn(r *bufio.Reader) (code int, body io.Reader, err error) {
	resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // see above
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, resp.Body, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// footprint is the memory that is in use when all garbage is gone, pools' too.
func footprint() (heap, stacks uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// Ten thousand connections that only sit there: others are served all along, the longest idle are closed for the newest,
// and when they go everything goes with them.
func TestTenThousandIdleConnections(t *testing.T) {
	c := start(t)
	c.get("/healthz")
	heap, stacks := footprint()
	goroutines := runtime.NumGoroutine()
	end := c.idlers(10000)
	open := c.server.Load().Connections
	if open > 4096/2 {
		t.Errorf("%d connections of one address are open, want half of 4096 at most", open)
	}
	moreHeap, moreStacks := footprint()
	each := (moreHeap + moreStacks - heap - stacks) / uint64(open)
	t.Logf("%d idle connections, %d bytes each", open, each)
	if each > 64<<10 {
		t.Errorf("an idle connection takes %d bytes", each)
	}
	if a := c.get(configMaps); a.code != 200 {
		t.Errorf("beside idle connections: %s", a)
	}
	end()
	until(t, "connections outlive their clients", func() bool { return c.server.Load().Connections <= 1 })
	until(t, "goroutines outlive their connections", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
	if after, _ := footprint(); after > heap+8<<20 {
		t.Errorf("%d bytes in use before, %d after", heap, after)
	}
}

// raw is a connection that speaks for itself.
func (c *cluster) raw(protocol string) *tls.Conn {
	c.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{RootCAs: c.ca.pool, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12})
	must(c.t, err)
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// When every connection is busy, the next is told so; there is room again when one ends.
func TestConnectionTooMany(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.Connections = 4 })
	transport, _ := c.client.Transport.(*http.Transport)
	transport.DisableKeepAlives = true
	var watches []net.Conn
	for range 2 {
		conn := c.raw("http/1.1")
		fmt.Fprintf(conn, "GET %s?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", configMaps, adminToken)
		code, _, err := answerOn(bufio.NewReader(conn))
		if err != nil || code != 200 {
			t.Fatalf("%d, %v", code, err)
		}
		watches = append(watches, conn)
	}
	a := c.get(configMaps)
	if s := a.status(t); s.Code != 429 || s.Reason != metav1.StatusReasonTooManyRequests || !strings.Contains(s.Message, "as many connections as it can serve (4,") {
		t.Errorf("got %+v", s)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("nobody says when to come again")
	}
	watches[0].Close()
	until(t, "there is still no room", func() bool { return c.get(configMaps).code == 200 })
}

// Connections beyond those that are told why are closed; the server goes on.
func TestConnectionsFarTooMany(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.Connections = 2 })
	address := strings.TrimPrefix(c.url, "https://")
	for range 300 {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		defer conn.Close()
	}
	open := c.server.Load().Connections
	if open > 2+64 {
		t.Errorf("%d connections are open", open)
	}
}

// drip sends pieces until the server ends the connection.
func drip(t *testing.T, conn net.Conn, head, piece string) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	}()
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(2 * patience); ; {
		select {
		case <-ended:
			return
		case <-end:
			t.Fatal("the connection is still open")
		case <-tick.C:
			_, _ = io.WriteString(conn, piece) // fails when the server has closed, which the reader sees
		}
	}
}

// Clients that send a byte at a time are left: in the headers, in a body that is wanted, in one that nobody wants, before
// and after the answer, by HTTP/1 and by HTTP/2.
func TestSlowloris(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.BodyLimit = 300 * time.Millisecond })
	post := "POST " + configMaps + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + adminToken + "\r\nContent-Type: application/json\r\n"
	get := "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + adminToken + "\r\n"
	for name, head := range map[string]string{
		"headers":               "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ",
		"body":                  post + "Content-Length: 100000\r\n\r\n{",
		"chunks":                post + "Transfer-Encoding: chunked\r\n\r\n",
		"unwanted body":         fmt.Sprintf(get, configMaps) + "Content-Length: 100000\r\n\r\n",
		"unwanted by strangers": "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"body of a login":       "POST /ui/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
		"body of a watch":       fmt.Sprintf(get, configMaps+"?watch=1") + "Content-Length: 100000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			piece := "x"
			if name == "chunks" {
				piece = "1\r\n \r\n"
			}
			drip(t, c.raw("http/1.1"), head, piece)
		})
	}
	t.Run("body by HTTP/2", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		body, feed := io.Pipe()
		defer feed.Close()
		req, err := http.NewRequestWithContext(ctx, "POST", c.url+configMaps, body)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := c.client.Do(req)
		must(t, err)
		defer resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("code %d", resp.StatusCode)
		}
	})
}

// frames is a client that speaks HTTP/2 frame by frame.
type frames struct {
	*http2.Framer
	conn *tls.Conn
	head strings.Builder
	hp   *hpack.Encoder
}

func (c *cluster) frames() *frames {
	c.t.Helper()
	conn := c.raw("h2")
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn}
	f.hp = hpack.NewEncoder(&f.head)
	_, err := io.WriteString(conn, http2.ClientPreface)
	must(c.t, err)
	must(c.t, f.WriteSettings())
	return f
}

func (f *frames) request(stream uint32, path string) error {
	f.head.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", path}, {"authorization", "Bearer " + adminToken}} {
		if err := f.hp.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(f.head.String()), EndHeaders: true, EndStream: true})
}

// A client that opens streams and resets them at once leaves nothing behind, and others are served.
func TestRapidReset(t *testing.T) {
	c := start(t)
	c.get("/healthz")
	goroutines := runtime.NumGoroutine()
	f := c.frames()
	go io.Copy(io.Discard, f.conn)
	for i := range uint32(20000) {
		if f.request(2*i+1, configMaps+"?watch=1") != nil || f.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
			break // the server has had enough
		}
	}
	if a := c.get(configMaps); a.code != 200 {
		t.Errorf("beside resets: %s", a)
	}
	f.conn.Close()
	until(t, "something is left of reset streams", func() bool {
		load := c.server.Load()
		return load.Requests == 0 && load.Watches == 0 && runtime.NumGoroutine() <= goroutines+10
	})
}

// Streams beyond the limit of one connection are refused, so that a client opens another connection.
func TestManyStreams(t *testing.T) {
	c := start(t)
	f := c.frames()
	go func() {
		for i := range uint32(1000) {
			if f.request(2*i+1, configMaps+"?watch=1") != nil {
				return
			}
		}
	}()
	refused := 0
	must(t, f.conn.SetReadDeadline(time.Now().Add(patience)))
	for refused < 1000-250 {
		frame, err := f.ReadFrame()
		if err != nil {
			break // the server may end a connection that asks for too much
		}
		if r, ok := frame.(*http2.RSTStreamFrame); ok && r.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
		if watches := c.server.Load().Watches; watches > 250 {
			t.Fatalf("%d watches on one connection", watches)
		}
	}
	if refused == 0 {
		t.Error("no stream was refused")
	}
}
