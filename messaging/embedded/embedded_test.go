package embedded_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// start runs a server until the test ends.
func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	o.NoSync = true
	s, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before clean-ups that use the server
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	<-s.Ready()
	return s
}

func connect(t *testing.T, o messaging.ConnectOptions) *nats.Conn {
	t.Helper()
	nc, err := try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

func try(t *testing.T, o messaging.ConnectOptions) (*nats.Conn, error) {
	t.Helper()
	o.FailFast = true
	nc, err := messaging.Connect(t.Context(), o)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	s, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
}

// Two servers on one store would destroy it.
func TestStoreFolderIsLocked(t *testing.T) {
	folder := t.TempDir()
	s, err := embedded.New(embedded.Options{StoreDir: folder, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.New(embedded.Options{StoreDir: folder, Port: -1}); err == nil || !strings.Contains(err.Error(), folder) {
		t.Fatalf("second server on the folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := embedded.New(embedded.Options{StoreDir: folder, Port: -1})
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]embedded.Options{
		"no folder": {},
		"port":      {StoreDir: t.TempDir(), Port: 70000},
	} {
		if _, err := embedded.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The coordinator's secret is worth nothing over the network.
func TestCoordinatorSecretOverTheNetwork(t *testing.T) {
	s := start(t, embedded.Options{})
	o := s.CoordinatorOptions()
	connect(t, o)
	o.InProcess, o.URLs = nil, []string{s.ClientURL()}
	if _, err := try(t, o); err == nil {
		t.Fatal("accepted")
	}
}

func TestTLS(t *testing.T) {
	now := time.Now()
	authority, err := messaging.OpenAuthority(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	config, err := serverTLS(authority, now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := messaging.OpenAuthority(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, embedded.Options{TLS: config, Auth: newRegistry()})
	o := node(t, "n1", s)
	o.CAHash = authority.Hash()
	nc := connect(t, o)
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Fatal(err)
	}
	o.CAHash = other.Hash()
	_, err = try(t, o)
	if err == nil || !strings.Contains(err.Error(), messaging.ErrCAHash.Error()) {
		t.Fatalf("server of another cluster: %v", err)
	}
	o.CAHash, o.FailFast = "", true
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := messaging.Connect(ctx, o); err == nil {
		t.Fatal("connected without TLS")
	}
	connect(t, s.CoordinatorOptions()) // in process, no TLS
}
