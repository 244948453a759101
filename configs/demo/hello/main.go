// Command hello is the demo's web server: small, static, and polite about being stopped.
//
// It answers every path with who it is, /healthz and /readyz with whether it is well, and on SIGTERM it does what a
// server behind a Service should do so that a rolling update loses no request:
//
//  1. it says "not ready", and goes on serving for a moment (-lame-duck), because other machines learn only with a delay
//     that they should send nothing more here;
//  2. then it takes no new connections, and finishes the requests that it has.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// version is set by the build: go build -ldflags "-X main.version=2". The environment variable VERSION goes before it.
var version = "1"

func main() {
	addr := flag.String("listen", ":8080", "address to listen on")
	lameDuck := flag.Duration("lame-duck", 2*time.Second, "how long to go on serving after SIGTERM")
	grace := flag.Duration("grace", 10*time.Second, "how long requests may take to end after that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *lameDuck, *grace); err != nil {
		log.Fatalf("hello: %v", err)
	}
}

// run serves until ctx ends, and then for as long as politeness asks.
func run(ctx context.Context, addr string, lameDuck, grace time.Duration) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	site := newSite()
	server := &http.Server{Handler: site, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1) // one result
	go func() { served <- server.Serve(listener) }()
	log.Printf("%s serves version %s at %s", site.who.Pod, site.who.Version, listener.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	site.stopping.Store(true)
	log.Printf("stopping: serving for %v more", lameDuck)
	time.Sleep(lameDuck)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return fmt.Errorf("requests did not end: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	log.Printf("stopped after %d requests", site.requests.Load())
	return nil
}

// identity is what a page says about its server.
type identity struct {
	Pod     string `json:"pod"`
	Node    string `json:"node"`
	Version string `json:"version"`
}

// site answers requests.
type site struct {
	who      identity
	mux      *http.ServeMux
	stopping atomic.Bool
	requests atomic.Int64
}

func newSite() *site {
	s := &site{who: whoAmI(), mux: http.NewServeMux()}
	s.mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.HandleFunc("/readyz", s.ready)
	s.mux.HandleFunc("/", s.page)
	return s
}

// whoAmI asks the environment, which the Deployment fills in, and the host name, which is the pod's.
func whoAmI() identity {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return identity{Pod: firstOf(os.Getenv("POD_NAME"), host), Node: firstOf(os.Getenv("NODE_NAME"), "unknown"), Version: firstOf(os.Getenv("VERSION"), version)}
}

func firstOf(choices ...string) string {
	for _, c := range choices {
		if c != "" {
			return c
		}
	}
	return ""
}

func (s *site) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if s.stopping.Load() {
		// Who keeps a connection open is asked to make his next one elsewhere.
		w.Header().Set("Connection", "close")
	}
	s.mux.ServeHTTP(w, req)
}

func (s *site) ready(w http.ResponseWriter, _ *http.Request) {
	if s.stopping.Load() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// page says who answers: one line, or JSON for who asks for it.
func (s *site) page(w http.ResponseWriter, req *http.Request) {
	s.requests.Add(1)
	if strings.Contains(req.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		// A reader that is gone cannot be told.
		_ = json.NewEncoder(w).Encode(s.who)
		return
	}
	fmt.Fprintf(w, "hello from %s on %s, version %s\n", s.who.Pod, s.who.Node, s.who.Version)
}
