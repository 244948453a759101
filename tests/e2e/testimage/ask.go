package main

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
	"strings"
	"sync"
	"time"
)

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"

// api asks the cluster's API as programs in pods do: where the environment says, as the pod's account, believing the pod's CA.
type api struct {
	mu    sync.Mutex
	lines strings.Builder // what watches have said
}

// get returns the answer's code and body.
func (a *api) get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := a.open(ctx, path)
	if err != nil {
		return "failed: " + err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, body), err
}

// watch keeps what a watch says, until it ends.
func (a *api) watch(path string) (string, error) {
	resp, err := a.open(context.Background(), path) //nolint:bodyclose // by the goroutine below
	if err != nil {
		return "", err
	}
	go func() {
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				line += "ended: " + err.Error() + "\n"
			}
			a.mu.Lock()
			a.lines.WriteString(line)
			a.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return "watching", nil
}

func (a *api) watched() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lines.String()
}

func (a *api) open(ctx context.Context, path string) (*http.Response, error) {
	ca, err := os.ReadFile(accountFolder + "ca.crt")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(accountFolder + "token")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca) // without a certificate nothing is believed
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
	return client.Do(req)
}
