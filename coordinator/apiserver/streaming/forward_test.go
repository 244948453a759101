package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // what client-go's dialers are of
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// eachForward runs a test with both ways in which clients forward ports. pod connects to the pod.
func eachForward(t *testing.T, pod func(port uint16) (net.Conn, error), test func(t *testing.T, f *forwarding)) {
	t.Helper()
	for name, dialer := range map[string]func(u *url.URL) (httpstream.Dialer, error){
		"tunnel": func(u *url.URL) (httpstream.Dialer, error) {
			return portforward.NewSPDYOverWebsocketDialer(u, &rest.Config{})
		},
		"SPDY": func(u *url.URL) (httpstream.Dialer, error) {
			transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
			return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
				return Forward(ctx, w, r, func(_ context.Context, port uint16) (net.Conn, error) { return pod(port) })
			})
			d, err := dialer(u)
			if err != nil {
				t.Fatal(err)
			}
			test(t, forward(t, d))
		})
	}
}

// forwarding is a client-go forwarder of port 80.
type forwarding struct {
	port  uint16
	stop  func()
	ended chan error
}

func forward(t *testing.T, d httpstream.Dialer) *forwarding {
	t.Helper()
	stop, ready := make(chan struct{}), make(chan struct{})
	f := &forwarding{ended: make(chan error, 1), stop: sync.OnceFunc(func() { close(stop) })}
	fw, err := portforward.New(d, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { f.ended <- fw.ForwardPorts() }()
	t.Cleanup(func() {
		f.stop()
		<-f.ended
	})
	select {
	case <-ready:
	case err := <-f.ended:
		f.ended <- err
		t.Fatal(err)
	}
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	f.port = ports[0].Local
	return f
}

func (f *forwarding) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// podServer runs handle for each connection to a pod.
func podServer(t *testing.T, handle func(c *net.TCPConn)) func(uint16) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				handle(c.(*net.TCPConn))
				_ = c.Close()
			})
		}
	})
	return func(port uint16) (net.Conn, error) {
		if port != 80 {
			return nil, fmt.Errorf("port %d", port)
		}
		return net.Dial("tcp", l.Addr().String())
	}
}

func TestForward(t *testing.T) {
	pod := podServer(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	eachForward(t, pod, func(t *testing.T, f *forwarding) {
		var clients sync.WaitGroup
		for n := range 20 {
			conn := f.dial(t)
			clients.Go(func() {
				text := strings.Repeat(fmt.Sprint("client ", n, " "), 20_000)
				go func() {
					_, _ = io.WriteString(conn, text)
					_ = conn.CloseWrite()
				}()
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != text {
					t.Errorf("client %d: %d bytes of %d, %v", n, len(got), len(text), err)
				}
			})
		}
		clients.Wait()
	})
}

// TestForwardToServerThatCloses: its client sees the end though it keeps its own side open.
func TestForwardToServerThatCloses(t *testing.T) {
	pod := podServer(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello") })
	eachForward(t, pod, func(t *testing.T, f *forwarding) {
		got, err := io.ReadAll(f.dial(t))
		if err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestForwardClientGoes: what a pod sends without end to a client that is gone ends at the pod.
func TestForwardClientGoes(t *testing.T) {
	ended := make(chan struct{}, 1)
	pod := podServer(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, endless{})
		ended <- struct{}{}
	})
	eachForward(t, pod, func(t *testing.T, f *forwarding) {
		conn := f.dial(t)
		if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		<-ended
	})
}

func TestForwardRefused(t *testing.T) {
	refuse := func(uint16) (net.Conn, error) { return nil, errors.New("connection refused") }
	eachForward(t, refuse, func(t *testing.T, f *forwarding) {
		if got, err := io.ReadAll(f.dial(t)); len(got) > 0 {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-f.ended; err == nil || !strings.Contains(err.Error(), "lost connection to pod") {
			t.Errorf("forwarder ended with %v", err)
		}
		f.ended <- nil
	})
}

// TestForwarderGoes: connections that are open when the forwarder goes end at the pod.
func TestForwarderGoes(t *testing.T) {
	ended := make(chan struct{}, 3)
	pod := podServer(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, c)
		ended <- struct{}{}
	})
	eachForward(t, pod, func(t *testing.T, f *forwarding) {
		for range cap(ended) {
			conn := f.dial(t)
			_, err := io.WriteString(conn, "x")
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		f.stop()
		for range cap(ended) {
			<-ended
		}
	})
}

// TestForwardBlocked: a server that reads nothing holds up only its own connection.
func TestForwardBlocked(t *testing.T) {
	release := make(chan struct{})
	pod := podServer(t, func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err == nil && first[0] == 'b' {
			<-release
			return
		}
		_, _ = io.Copy(c, c)
	})
	t.Cleanup(func() { close(release) }) // before the servers are waited for
	eachForward(t, pod, func(t *testing.T, f *forwarding) {
		blocked := f.dial(t)
		if _, err := io.WriteString(blocked, "b"); err != nil {
			t.Fatal(err)
		}
		other := f.dial(t)
		if _, err := io.WriteString(other, "ab"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}
