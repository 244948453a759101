package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestStopLosesNothing stops the server and asks it until it is gone: it says that it is not ready, and answers at least
// as long as its lame duck promises.
func TestStopLosesNothing(t *testing.T) {
	t.Setenv("POD_NAME", "hello-1")
	t.Setenv("NODE_NAME", "n1")
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1) // one result
	const lameDuck = 300 * time.Millisecond
	go func() { ended <- run(ctx, addr, lameDuck, 10*time.Second) }()
	base := "http://" + addr
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if status, _ := get(t, base+"/readyz"); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never ready")
		}
	}
	if _, body := get(t, base); body != "hello from hello-1 on n1, version 1\n" {
		t.Errorf("page %q", body)
	}
	stopped := time.Now()
	cancel()
	sawNotReady := false
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("stop: %v", err)
			}
			if !sawNotReady {
				t.Error("never said that it is not ready")
			}
			return
		default:
		}
		status, body := get(t, base+"/readyz")
		sawNotReady = sawNotReady || status == http.StatusServiceUnavailable
		if since := time.Since(stopped); status == 0 && since < lameDuck {
			t.Errorf("a request was lost %v after the stop: %s", since, body)
		}
	}
}

func TestPageAsJSON(t *testing.T) {
	s := newSite()
	s.who = identity{Pod: "p", Node: "n", Version: "2"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/", listener.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got identity
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got != s.who {
		t.Errorf("%+v, %v, want %+v", got, err, s.who)
	}
}
