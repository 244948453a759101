package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skerry.dev/skerry/tests/cluster"
)

// natsArgs are how the nats CLI reaches the cluster: TLS from the first byte, our CA, the API's token as password.
func natsArgs(t *testing.T, password string) []string {
	t.Helper()
	ca := filepath.Join(filepath.Dir(shared.State0.Kubeconfig), "pki", "ca.crt")
	return []string{"--server", shared.State0.NATS, "--tlsfirst", "--tlsca", ca, "--user", "admin", "--password", password}
}

func (s space) nats(args ...string) (string, error) {
	s.Helper()
	token, err := shared.Token()
	if err != nil {
		s.Fatal(err)
	}
	return shared.Run(s.Context(), "", shared.Tool("nats"), append(natsArgs(s.T, token), args...)...)
}

// request calls an endpoint and reads its JSON answer into out.
func (s space) request(subject, payload string, out any) {
	s.Helper()
	text, err := s.nats("req", subject, payload, "--raw", "--timeout", "20s")
	if err != nil {
		s.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		s.Fatalf("%s answers %q: %v", subject, text, err)
	}
}

func TestNatsCLIDrivesTheCluster(t *testing.T) {
	s := newSpace(t)
	feed := s.listen("skerry.v1.evt." + s.name + ".>")

	manifest := fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"by-nats","namespace":%q},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"n"}},"template":{"metadata":{"labels":{"app":"n"}},"spec":{"containers":[{"name":"c","image":"registry.skerry/testimage:1","args":["serve"]}]}}}}`, s.name)
	var object struct {
		Metadata struct{ Name, UID string }
		Spec     struct{ Replicas int }
		Status   struct{ ReadyReplicas int }
	}
	s.request("skerry.v1.api.deployments.apply", manifest, &object)
	get := fmt.Sprintf(`{"namespace":%q,"name":"by-nats"}`, s.name)
	err := cluster.Poll(t.Context(), limit, "two pods ready", func() (bool, error) {
		s.request("skerry.v1.api.deployments.get", get, &object)
		return object.Status.ReadyReplicas == 2, fmt.Errorf("%d ready", object.Status.ReadyReplicas)
	})
	if err != nil && object.Status.ReadyReplicas != 2 {
		t.Fatal(err)
	}
	// kubectl sees the same object, and automation sees what kubectl does.
	if uid := s.kubectl("get deployment by-nats -o jsonpath={.metadata.uid}"); uid != object.Metadata.UID {
		t.Errorf("kubectl sees uid %s, automation %s", uid, object.Metadata.UID)
	}
	s.kubectl("scale deployment by-nats --replicas=3")
	s.request("skerry.v1.api.deployments.get", get, &object)
	if object.Spec.Replicas != 3 {
		t.Errorf("automation sees %d replicas after kubectl's scale", object.Spec.Replicas)
	}
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	s.request("skerry.v1.api.pods.list", fmt.Sprintf(`{"namespace":%q,"labelSelector":"app=n"}`, s.name), &list)
	if len(list.Items) < 2 {
		t.Errorf("%d pods listed", len(list.Items))
	}

	feed.expect("deployments", "by-nats", "added")
	feed.expect("deployments", "by-nats", "modified")
	var answer struct{ Status string }
	s.request("skerry.v1.api.deployments.delete", get, &answer)
	if answer.Status != "Success" {
		t.Errorf("delete is answered %q", answer.Status)
	}
	feed.expect("deployments", "by-nats", "deleted")
}

func TestNatsCLIRefusals(t *testing.T) {
	s := newSpace(t)
	out, err := s.nats("req", "skerry.v1.api.deployments.apply", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"bad","namespace":"`+s.name+`"},"spec":{}}`, "--timeout", "20s")
	if !strings.Contains(out+fmt.Sprint(err), "spec.selector") {
		t.Errorf("an invalid object is answered %q, %v", out, err)
	}
	if out, err := s.nats("kv", "put", "state", "pods.default.x", "forged"); err == nil {
		t.Errorf("writing the store behind the API's back worked: %s", out)
	}
	if out, err := s.nats("pub", "skerry.v1.hb.n1", "{}"); err == nil && !strings.Contains(out, "ermission") {
		// The server refuses with an asynchronous error; what counts is that the node's heartbeat cannot be forged.
		t.Logf("pub said %q", out)
	}
	if out, err := shared.Run(t.Context(), "", shared.Tool("nats"), append(natsArgs(t, "guess"), "req", "skerry.v1.api.pods.list", "{}", "--timeout", "5s")...); err == nil {
		t.Errorf("a wrong password was let in: %s", out)
	}
	info, err := s.nats("micro", "ls")
	if err != nil || !strings.Contains(info, "skerry") {
		t.Errorf("micro ls says %q, %v", info, err)
	}
}

// TestNatsCLILooksAround: the service and its endpoints, the streams, and an object in the store can be read with the nats
// CLI's own commands; the events of a kubectl apply are heard.
func TestNatsCLILooksAround(t *testing.T) {
	s := newSpace(t)
	feed := s.listen("skerry.v1.evt." + s.name + ".>")
	s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: heard}\ndata: {a: b}\n")
	feed.expect("configmaps", "heard", "added")
	s.kubectl("delete configmap heard")
	feed.expect("configmaps", "heard", "deleted")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"micro info skerry", []string{"deployments-apply", "skerry.v1.api.deployments.apply", "skerry.v1.api.pods.list"}},
		{"stream ls --all", []string{"KV_state", "EVENTS"}},
		{"stream info KV_state", []string{"$KV.state.>", "File"}},
		{"kv get state namespaces._." + s.name + " --raw", []string{s.name}},
	} {
		out, err := s.nats(strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("nats %s: %v", c.args, err)
			continue
		}
		s.wants(out, c.want...)
	}
	for _, args := range []string{"pub $KV.state.pods.default.x forged", "pub $JS.API.STREAM.PURGE.KV_state {}", "stream rm EVENTS -f --timeout 2s"} {
		if out, err := s.nats(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), "Permissions Violation") {
			t.Errorf("nats %s is not refused: %q %v", args, out, err)
		}
	}
	s.kubectl("get namespace " + s.name) // none of them did anything
	if out, err := s.nats("kv", "get", "state", "namespaces._."+s.name, "--raw"); err != nil || !strings.Contains(out, s.name) {
		t.Errorf("the store has lost the namespace: %q %v", out, err)
	}
}

// feed is a running `nats sub`.
type feed struct {
	space
	lines chan string
}

func (s space) listen(subject string) *feed {
	s.Helper()
	token, err := shared.Token()
	if err != nil {
		s.Fatal(err)
	}
	return s.listenAs(natsArgs(s.T, token), subject)
}

func (s space) listenAs(login []string, subject string) *feed {
	s.Helper()
	f := s.listenRaw(login, subject)
	f.until("subscription", "Subscribing on")
	return f
}

// listenRaw does not ask whether anything comes of it.
func (s space) listenRaw(login []string, subject string) *feed {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, shared.Tool("nats"), append(slices.Clone(login), "sub", subject)...)
	cmd.Env = append(os.Environ(), "HOME="+shared.DataDir)
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	f := &feed{space: s, lines: make(chan string, 4096)} // more than a test makes
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			f.lines <- scan.Text()
		}
		close(f.lines)
	}()
	s.Cleanup(func() {
		cancel()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			s.Error(err)
		}
		_ = w.Close()
	})
	return f
}

// expect waits for a change to be announced. Changes of one object come in order.
func (f *feed) expect(kind, name, verb string) {
	f.Helper()
	f.until(verb+" "+name, kind+"."+name+"."+verb)
}

func (f *feed) until(what, text string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), limit)
	defer cancel()
	var seen []string
	for {
		select {
		case line, ok := <-f.lines:
			if !ok {
				f.Fatalf("nats sub ended; it said %q", seen)
			}
			if seen = append(seen, line); strings.Contains(line, text) {
				return
			}
		case <-ctx.Done():
			f.Fatalf("never heard %s; heard %.2000q", what, seen)
		}
	}
}
