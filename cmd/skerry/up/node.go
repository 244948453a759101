package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/cmd/skerry/fleet"
	"skerry.dev/skerry/cmd/skerry/local"
)

// startNode writes the node's settings, makes it a join token if it has not joined yet, and powers it on.
func (u *Up) startNode(ctx context.Context, n *local.Node) error {
	config := filepath.Join(n.StateDir, "agent.yaml")
	tokenFile := filepath.Join(n.StateDir, "join.token")
	if err := os.MkdirAll(n.StateDir, 0o711); err != nil { //nolint:gosec // what is secret in it has its own mode
		return err
	}
	if err := u.ensureToken(ctx, n, tokenFile); err != nil {
		return fmt.Errorf("token for node %s: %w", n.Name, err)
	}
	data, err := yaml.Marshal(map[string]any{
		"name": n.Name, "state-dir": n.StateDir, "servers": []string{u.natsURL()}, "join-token-file": tokenFile,
		"address": n.Address.String(), "cgroup-parent": u.cluster.CgroupParent(n.Name),
		"network":  map[string]any{"pod-cidr": podCIDR, "service-cidr": serviceCIDR},
		"eviction": map[string]any{"hard": thresholds},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		return err
	}
	u.expect(n.Name, true)
	return u.power(ctx, n, config)
}

// thresholds of nodes that share one machine's disk with all else on it: that it is mostly full is nothing to be evicted for.
const thresholds = "memory.available<100Mi,pid.available<5%,nodefs.available<1%,nodefs.inodesFree<1%,imagefs.available<1%,imagefs.inodesFree<1%"

// power switches a node on and, should it die without having been told to, on again.
func (u *Up) power(ctx context.Context, n *local.Node, config string) error {
	args := []string{"init", "--config", config, "--keeper", filepath.Join(u.options.BinDir, "skerry-keeper")}
	return n.Start(args, func(died error) {
		if ctx.Err() != nil || !u.expected(n.Name) {
			return
		}
		u.options.Log.Warn("node died, starting it again", "node", n.Name, "err", died)
		time.AfterFunc(restartPause, func() {
			if ctx.Err() != nil || !u.expected(n.Name) {
				return
			}
			if err := u.power(ctx, n, config); err != nil {
				u.options.Log.Error("node does not start", "node", n.Name, "err", err)
			}
		})
	})
}

func (u *Up) natsURL() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ready.NATS
}

// tokenTTL is generous: a node that takes longer to boot has other troubles.
const tokenTTL = time.Hour

// ensureToken makes a token for a node that has no identity yet. It names the node, so that it also replaces the key of a
// node whose folder was removed.
func (u *Up) ensureToken(ctx context.Context, n *local.Node, file string) error {
	_, err := os.Stat(filepath.Join(n.StateDir, "checkpoint"))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	token, err := fleet.CreateToken(ctx, u.client, n.Name, tokenTTL)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(token.String()), 0o600)
}

func (u *Up) expect(node string, on bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.off[node] = !on
}

func (u *Up) expected(node string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.off[node]
}

// nodeVerb does what `skerry local` asks for.
func (u *Up) nodeVerb(ctx context.Context, name, verb string) error {
	n := u.cluster.Node(name)
	if n == nil {
		return fmt.Errorf("no node %s here; nodes are n1 to n%d", name, len(u.cluster.Nodes()))
	}
	switch verb {
	case VerbStop:
		u.expect(name, false)
		return n.Stop()
	case VerbStart:
		return u.startNode(context.WithoutCancel(ctx), n)
	case VerbCut:
		return n.Cut()
	case VerbHeal:
		return n.Heal()
	}
	return fmt.Errorf("%q is none of %s, %s, %s, %s", verb, VerbStop, VerbStart, VerbCut, VerbHeal)
}

func (u *Up) state() State {
	u.mu.Lock()
	s := u.ready
	u.mu.Unlock()
	s.CoordinatorPID = u.coordinator.PID()
	for _, n := range u.cluster.Nodes() {
		s.Nodes = append(s.Nodes, NodeState{
			Name: n.Name, Address: n.Address.String(), StateDir: n.StateDir, Running: n.PID() != 0, Linked: n.Linked(),
			InitPID: n.PID(), KeeperPID: n.Process("skerry-keeper"), AgentPID: n.Process("skerry-agent"),
		})
	}
	return s
}
