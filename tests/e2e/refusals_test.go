package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/tests/cluster"
)

// refused runs a program that must fail soon, with words that say what, where and what to do.
func refused(t *testing.T, cmd *exec.Cmd, words ...string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
		t.Errorf("%s: %v, want an exit code that is not zero; it said %s", cmd, err, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("%s said %q, which lacks %q", cmd, out, w)
		}
	}
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, shared.Bin(name), args...)
}

func TestBadSettingsAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "settings.yaml")
	if err := os.WriteFile(file, []byte("stat-dir: /x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	state := filepath.Join(dir, "state")
	refused(t, command(t, "skerry-coordinator", "--config", file), "stat-dir", "known keys", "state-dir")
	refused(t, command(t, "skerry-agent", "run", "--config", file), "stat-dir")
	refused(t, command(t, "skerry-coordinator", "--config", filepath.Join(dir, "none.yaml")), "none.yaml", "no such file")
	refused(t, command(t, "skerry-coordinator", "--state-dir", state, "--api.listen", "example.com:1", "--nodes.heartbeat", "1ns"), "api.listen", "nodes.heartbeat")
	refused(t, command(t, "skerry-coordinator", "--state-dir", state, "--nats.listen", taken.Addr().String(), "--api.listen", "127.0.0.1:0"), taken.Addr().String(), "address already in use")
	refused(t, command(t, "skerry-coordinator", "--state-dir", state, "--nats.listen", "127.0.0.1:0", "--api.listen", taken.Addr().String()), taken.Addr().String(), "address already in use")
	refused(t, command(t, "skerry", "up", "--data-dir", filepath.Join(dir, "up"), "--api", taken.Addr().String()), taken.Addr().String(), "--api")
	refused(t, command(t, "skerry", "up", "--data-dir", filepath.Join(dir, "up"), "--nodes", "0"), "0 nodes")
	refused(t, command(t, "skerry", "up", "--data-dir", shared.DataDir), "another", "--data-dir")
	refused(t, command(t, "skerry", "token", "ls", "--kubeconfig", filepath.Join(dir, "none")), "none")
}

func TestNotRootIsRefused(t *testing.T) {
	nobody := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The binaries may be where only root may look: nobody gets copies.
	copied := func(name string) string {
		data, err := os.ReadFile(shared.Bin(name))
		path := filepath.Join(dir, name)
		if err := errors.Join(err, os.WriteFile(path, data, 0o755), os.Chmod(dir, 0o777)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{"skerry-coordinator", "skerry-agent", "skerry-keeper"} {
		copied(name)
	}
	state := filepath.Join(dir, "state")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	refused(t, nobody(exec.CommandContext(ctx, copied("skerry"), "up", "--data-dir", state)), "root")
	refused(t, nobody(exec.CommandContext(ctx, copied("skerry-keeper"), "--state-dir", state, "--socket", filepath.Join(state, "s"), "--cgroup-parent", "/x")), "root")
	refused(t, nobody(exec.CommandContext(ctx, copied("skerry-agent"), "run", "--name", "n", "--state-dir", state, "--servers", "nats://127.0.0.1:1")), "root")
}

func TestNoControlGroupsIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", `umount -R -l /sys/fs/cgroup && exec "$@"`, "sh",
		shared.Bin("skerry"), "up", "--data-dir", t.TempDir())
	refused(t, cmd, "cgroup")
}

func TestJoinTokensAreRefused(t *testing.T) {
	hash := func() string {
		ca, err := os.ReadFile(filepath.Join(filepath.Dir(shared.State0.Kubeconfig), "pki", "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := messaging.CAHash(ca)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}()
	made, err := shared.Skerry(t.Context(), "token", "create", "--kubeconfig", shared.State0.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	good, err := messaging.ParseJoinToken(made)
	if err != nil {
		t.Fatal(err)
	}
	guessed, err := messaging.NewJoinToken(hash, good.Name)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := messaging.NewJoinToken(strings.Repeat("A", len(hash)), good.Name)
	if err != nil {
		t.Fatal(err)
	}
	short, err := shared.Skerry(t.Context(), "token", "create", "--ttl", "1ms", "--kubeconfig", shared.State0.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	used, err := os.ReadFile(filepath.Join(shared.State0.Nodes[0].StateDir, "join.token"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ token, want string }{
		"guessed secret":  {guessed.String(), "join token"},
		"another cluster": {foreign.String(), "certificate"},
		"expired":         {strings.TrimSpace(short), "join token"},
		"used":            {strings.TrimSpace(string(used)), "join token"},
	} {
		t.Run(name, func(t *testing.T) { joinFails(t, c.token, c.want) })
	}
	t.Run("garbage", func(t *testing.T) {
		cmd := command(t, "skerry-agent", "run", "--name", "intruder", "--state-dir", t.TempDir(), "--servers", shared.State0.NATS)
		cmd.Env = append(os.Environ(), "SKERRY_JOIN_TOKEN=skerry1.abc")
		refused(t, cmd, "join-token", "cut off")
	})
	if out, err := shared.Kubectl(t.Context(), "", "get", "node", "intruder"); err == nil {
		t.Errorf("the intruder became a node:\n%s", out)
	}
}

// joinFails runs an agent that must not come in. It goes on trying, for a coordinator may be made to know it later; its
// log says why not.
func joinFails(t *testing.T, token, want string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "agent.log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// In networks and mounts of its own, with the host's way to the coordinator: an agent changes the machine it runs on.
	cmd := exec.Command(shared.Bin("skerry-agent"), "run", "--name", "intruder", "--state-dir", t.TempDir(), "--servers", shared.State0.NATS)
	state, err := shared.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inNode := exec.Command("nsenter", append([]string{"--net=/proc/" + fmt.Sprint(state.Nodes[0].InitPID) + "/ns/net", "unshare", "--mount"}, cmd.Args...)...)
	inNode.Stdout, inNode.Stderr = f, f
	inNode.Env = append(os.Environ(), "SKERRY_JOIN_TOKEN="+token)
	inNode.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := inNode.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = unix.Kill(-inNode.Process.Pid, unix.SIGKILL)
		_ = inNode.Wait()
	}()
	err = cluster.Poll(t.Context(), 30*time.Second, "refusal in the log", func() (bool, error) {
		data, err := os.ReadFile(log)
		if strings.Contains(string(data), want) && strings.Contains(string(data), "cannot connect") {
			return true, nil
		}
		return false, errors.Join(err, fmt.Errorf("the log says %.1500s", data))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBadManifestsAreRefused(t *testing.T) {
	s := newSpace(t)
	refuse := func(manifest string, words ...string) {
		t.Helper()
		out, err := shared.Kubectl(t.Context(), manifestOf(manifest), s.in([]string{"apply", "-f", "-"})...)
		if err == nil {
			t.Errorf("accepted:\n%s\n%s", manifest, out)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("refused with %q, which lacks %q", err, w)
			}
		}
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: IMAGE%s}\n"
	refuse("apiVersion: v1\nkind: Pod\n  metadata: [", "yaml")
	refuse(fmt.Sprintf(pod, ", imagee: x"), "unknown field", "spec.containers[0].imagee")
	refuse(fmt.Sprintf(pod, ", resources: {limits: {memory: 1Mi}}"), "spec.containers[0].resources.limits", "4Mi")
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: Not_A_Name}\nspec:\n  containers: [{name: c, image: x}]\n", "metadata.name")
	if out := s.kubectl("get pods"); strings.TrimSpace(out) != "" && !strings.Contains(out, "No resources") {
		t.Errorf("something was made: %s", out)
	}

	s.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: huge}\nspec:\n  containers:\n  - {name: c, image: IMAGE, resources: {requests: {cpu: '500'}}}\n")
	s.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: absent}\nspec:\n  containers:\n  - {name: c, image: 'registry.skerry/absent:1'}\n")
	err := cluster.Poll(t.Context(), limit, "both explained", func() (bool, error) {
		huge := s.kubectl("get pod huge -o jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}")
		absent := s.kubectl("get pod absent -o jsonpath={.status.containerStatuses[0].state.waiting}")
		if strings.Contains(huge, "3 Insufficient cpu") && strings.Contains(absent, "ImagePull") && strings.Contains(absent, "absent") {
			return true, nil
		}
		return false, fmt.Errorf("huge %q, absent %q", huge, absent)
	})
	if err != nil {
		t.Error(err)
	}
}
