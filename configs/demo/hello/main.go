// Command hello is the demo's workload: a web server that says which pod it is, and leaves without dropping a request.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// version is set by the linker: -X main.version=2.
var version = "1"

const (
	// lameDuck is how long it goes on serving after SIGTERM while it already says that it is not ready: so long may the
	// news take to every node's proxy.
	lameDuck  = 2 * time.Second
	drainTime = 10 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var leaving atomic.Bool
	server := &http.Server{Addr: ":8080", Handler: handler(&leaving), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1) // the server's last word
	go func() { failed <- server.ListenAndServe() }()
	fmt.Printf("version %s of %s on %s serves %s\n", version, os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), server.Addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	leaving.Store(true)
	time.Sleep(lameDuck)
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(leaving *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s on %s, version %s\n", os.Getenv("POD_NAME"), os.Getenv("NODE_NAME"), version)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if leaving.Load() {
			http.Error(w, "leaving", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
