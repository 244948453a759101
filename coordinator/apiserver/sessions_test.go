package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/messaging/channels"
)

const twoContainers = `{"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}}`

// withPod has a pod that is bound, and one that is not.
func withPods(t *testing.T, options ...option) *cluster {
	t.Helper()
	c := start(t, options...)
	c.must(http.MethodPost, "/api/v1/nodes", `{"metadata":{"name":"n1"}}`)
	c.must(http.MethodPost, "/api/v1/namespaces/default/pods", twoContainers)
	c.must(http.MethodPost, "/api/v1/namespaces/default/pods", `{"metadata":{"name":"pending"},"spec":{"containers":[{"name":"a","image":"i"}]}}`)
	return c
}

func TestSessionsRefuse(t *testing.T) {
	c := withPods(t)
	const pod = "/api/v1/namespaces/default/pods/"
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{pod + "none/exec?command=ls&stdout=1", 404, `pods "none" not found`},
		{pod + "p/exec?command=ls&stdout=1", 400, "a container name must be specified for pod p, choose one of: [a b]"},
		{pod + "p/exec?command=ls&stdout=1&container=c", 400, "container c is not valid for pod p"},
		{pod + "p/exec?command=ls&container=a", 400, "at least 1 of stdin, stdout, stderr"},
		{pod + "p/exec?stdout=1&container=a", 422, "command: Required value"},
		{pod + "p/exec?command=ls&stdout=maybe&container=a", 422, "must be true or false"},
		{pod + "p/exec?command=ls&container=a&tty=1&stderr=1", 422, "exclude each other"},
		{pod + "p/exec?command=ls&stdout=1&container=a", 400, "Upgrade request required"},
		{pod + "p/attach?container=a", 400, "at least 1 of stdin, stdout, stderr"},
		{pod + "p/attach?stdout=1&container=a", 400, "Upgrade request required"},
		{pod + "p/portforward", 400, "Upgrade request required"},
		{pod + "pending/exec?command=ls&stdout=1", 400, "pod pending does not have a host assigned"},
		{pod + "pending/portforward", 400, "pod pending does not have a host assigned"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := c.do(method, tt.path, "")
			if s := a.status(t); a.code != tt.code || !strings.Contains(s.Message, tt.want) {
				t.Errorf("%s %s: %d %q, want %d %q", method, tt.path, a.code, s.Message, tt.code, tt.want)
			}
		}
	}
	for _, sub := range []string{"exec", "attach", "portforward"} {
		a := c.get(pod+"p/"+sub, header{"Authorization": "Bearer " + guestToken})
		if s := a.status(t); a.code != 403 || !strings.Contains(s.Message, `cannot create resource \"pods/`+sub) && !strings.Contains(s.Message, `cannot create resource "pods/`+sub) {
			t.Errorf("guest: %d %q", a.code, s.Message)
		}
	}
}

func TestKubectlSessions(t *testing.T) {
	log := &auditor{level: auditv1.LevelMetadata}
	c := withPods(t, func(c *apiserver.Config) { c.Audit = log })
	c.nodes.exec = func(_ context.Context, node, uid string, o *corev1.PodExecOptions) (net.Conn, error) {
		if lines := log.lines(t); !strings.Contains(lines, `"subresource": "exec"`) || !strings.Contains(lines, `"code": 101`) {
			t.Errorf("a session leaves no line when it begins: %s", lines)
		}
		return echo(fmt.Sprintf("%s %s %q", node, o.Container, o.Command), o.Stdin, channels.Exit{Code: 3}), nil
	}
	c.nodes.attach = func(_ context.Context, node, uid string, o *corev1.PodAttachOptions) (net.Conn, error) {
		return nil, errors.New("container " + o.Container + " is not running")
	}
	k := newKubectl(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, env := range []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"} {
		cmd := k.command(ctx, "typed", "exec", "-i", "p", "-c", "b", "--", "sh", "-c", "a b")
		cmd.Env = append(cmd.Env, env)
		out, err := cmd.CombinedOutput()
		if want := "n1 b [\"sh\" \"-c\" \"a b\"]typedcommand terminated with exit code 3\n"; string(out) != want || cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("%s: %q, %v; want %q", env, out, err, want)
		}
	}
	if out, ok := k.run("", "attach", "p", "-c", "a"); ok || !strings.Contains(out, "container a is not running") {
		t.Errorf("attach: %s", out)
	}
}

// echo is a process that says hello and what it reads, and ends with its input.
func echo(hello string, stdin bool, end channels.Exit) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		in, out := channels.NewReader(theirs), channels.NewWriter(theirs)
		_ = out.Send(channels.Stdout, []byte(hello))
		for stdin {
			channel, payload, err := in.Next()
			if err != nil || channel == channels.Close {
				break
			}
			_ = out.Send(channels.Stdout, payload)
		}
		_ = out.SendExit(end)
		_, _ = io.Copy(io.Discard, theirs)
	}()
	return ours
}
