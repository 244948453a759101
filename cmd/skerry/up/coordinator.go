package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/client"
)

const (
	podCIDR     = "10.42.0.0/16"
	serviceCIDR = "10.43.0.0/16"
	natsPort    = 4222
)

func coordinatorDir(dataDir string) string { return filepath.Join(dataDir, "coordinator") }

// Kubeconfig is where the cluster of a data folder keeps its administrator's kubeconfig.
func Kubeconfig(dataDir string) string {
	return filepath.Join(coordinatorDir(dataDir), api.AdminKubeconfig)
}

// startCoordinator starts the coordinator, keeps it running, and returns when it answers.
func (u *Up) startCoordinator(ctx context.Context, g *errgroup.Group) error {
	listen, err := freePort(u.options.API)
	if err != nil {
		return err
	}
	port := u.options.NATSPort
	if port == 0 {
		port = natsPort
	}
	nats := net.JoinHostPort(u.cluster.HostAddress().String(), strconv.Itoa(port))
	dir := coordinatorDir(u.options.DataDir)
	u.coordinator = &process{
		name: "coordinator", log: u.options.Log,
		path: filepath.Join(u.options.BinDir, "skerry-coordinator"),
		args: []string{
			"--state-dir", dir, "--api.listen", listen, "--api.names", u.cluster.HostAddress().String(), "--nats.listen", nats,
			"--network.pod-cidr", podCIDR, "--network.service-cidr", serviceCIDR, "--nodes.heartbeat", u.options.Heartbeat.String(),
		},
		output: filepath.Join(u.options.DataDir, "coordinator.log"),
	}
	g.Go(func() error { return u.coordinator.run(ctx) })
	if err := u.awaitCoordinator(ctx); err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(dir, api.AdminTokenFile))
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ready = State{
		API: "https://" + listen, Kubeconfig: Kubeconfig(u.options.DataDir),
		Page: "https://" + listen + "/ui/#token=" + strings.TrimSpace(string(token)),
		NATS: "tls://" + nats, TokenFile: filepath.Join(dir, api.AdminTokenFile),
	}
	return nil
}

// freePort turns port 0 into a free one: the coordinator is to come back on the same port each time it restarts.
func freePort(listen string) (string, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", fmt.Errorf("API address %s: %w; choose another with --api", listen, err)
	}
	return l.Addr().String(), l.Close()
}

func (u *Up) awaitCoordinator(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, errors.New("coordinator not ready in time"))
	defer cancel()
	for {
		c, err := client.New(client.Load(Kubeconfig(u.options.DataDir)))
		if err == nil {
			if err = c.Get(ctx, "/readyz", nil); err == nil {
				u.client = c
				u.coordinator.proven()
				u.say("coordinator ready in %s", time.Since(began).Round(10*time.Millisecond))
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: see %s", context.Cause(ctx), u.coordinator.output)
		case err := <-u.coordinator.failed():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
