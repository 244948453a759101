package apiserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/apiserver/streaming"
)

// maxSessions bounds the sessions and port-forwards that are open at once: each may hold a window of a megabyte.
const maxSessions = 500

// connects reports whether the request is for a session inside a pod. Whatever its method, it counts as create: it may
// change anything there.
func (t target) connects() bool {
	switch t.subresource {
	case "exec", "attach", "portforward":
		return t.group == "" && t.plural == "pods"
	}
	return false
}

func (s *Server) podExec(c *call) error {
	want, err := c.wanted("PodExecOptions")
	if err != nil {
		return err
	}
	command := c.query["command"]
	if len(command) == 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "PodExecOptions"}, c.name, field.ErrorList{field.Required(field.NewPath("command"), "")})
	}
	pod, container, err := s.running(c)
	if err != nil {
		return err
	}
	o := &corev1.PodExecOptions{
		Stdin: want.Stdin, Stdout: want.Stdout, Stderr: want.Stderr, TTY: want.TTY, Container: container, Command: command,
	}
	want.Node = pod.Spec.NodeName
	return s.session(c, func(ctx context.Context) error {
		return streaming.Session(ctx, c.w, c.r, want, func(ctx context.Context) (net.Conn, error) {
			return s.nodes.OpenExec(ctx, pod.Spec.NodeName, string(pod.UID), o)
		})
	})
}

func (s *Server) podAttach(c *call) error {
	want, err := c.wanted("PodAttachOptions")
	if err != nil {
		return err
	}
	pod, container, err := s.running(c)
	if err != nil {
		return err
	}
	o := &corev1.PodAttachOptions{Stdin: want.Stdin, Stdout: want.Stdout, Stderr: want.Stderr, TTY: want.TTY, Container: container}
	want.Node = pod.Spec.NodeName
	return s.session(c, func(ctx context.Context) error {
		return streaming.Session(ctx, c.w, c.r, want, func(ctx context.Context) (net.Conn, error) {
			return s.nodes.OpenAttach(ctx, pod.Spec.NodeName, string(pod.UID), o)
		})
	})
}

func (s *Server) podPortForward(c *call) error {
	pod, err := s.placed(c)
	if err != nil {
		return err
	}
	return s.session(c, func(ctx context.Context) error {
		return streaming.Forward(ctx, c.w, c.r, func(ctx context.Context, port uint16) (net.Conn, error) {
			return s.nodes.OpenPort(ctx, pod.Spec.NodeName, string(pod.UID), port)
		})
	})
}

// wanted reads which streams the client asks for.
func (c *call) wanted(kind string) (streaming.Want, error) {
	p := params{query: c.query}
	w := streaming.Want{Stdin: p.flag("stdin"), Stdout: p.flag("stdout"), Stderr: p.flag("stderr"), TTY: p.flag("tty")}
	switch {
	case len(p.errs) > 0:
	case w.TTY && w.Stderr:
		p.errs = append(p.errs, field.Invalid(field.NewPath("stderr"), true, "a terminal has one output: tty and stderr exclude each other"))
	case !w.Stdin && !w.Stdout && !w.Stderr:
		return w, badRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	if len(p.errs) > 0 {
		return w, apierrors.NewInvalid(schema.GroupKind{Kind: kind}, c.name, p.errs)
	}
	return w, nil
}

// running finds the pod and which of its containers is meant. The node knows whether it runs.
func (s *Server) running(c *call) (*corev1.Pod, string, error) {
	pod, err := s.placed(c)
	if err != nil {
		return nil, "", err
	}
	name := c.query.Get("container")
	ephemeral := slices.ContainsFunc(pod.Spec.EphemeralContainers, func(e corev1.EphemeralContainer) bool { return e.Name == name })
	if name == "" || !ephemeral {
		name, err = chooseContainer(pod, name)
	}
	return pod, name, err
}

func (s *Server) placed(c *call) (*corev1.Pod, error) {
	pod, err := s.pod(c)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, badRequest("pod %s does not have a host assigned", pod.Name)
	}
	return pod, nil
}

// session serves one that ends with its client or with the server. It leaves its line in the audit log when it begins: it may
// last for days.
func (s *Server) session(c *call, serve func(context.Context) error) error {
	return s.hold(c, func(ctx context.Context) error {
		c.code = http.StatusSwitchingProtocols
		s.audit(c, nil)
		c.audited = true
		return serve(ctx)
	})
}

// hold keeps a stream to a node open as long as its client likes, and ends it with the server.
func (s *Server) hold(c *call, serve func(context.Context) error) error {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer endWithServer(ctx, cancel)()
	return serve(ctx)
}

var errNoNodes = statusError(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "this server has no connection to the nodes")

// OpenExec implements Nodes: it always fails.
func (noNodes) OpenExec(context.Context, string, string, *corev1.PodExecOptions) (net.Conn, error) {
	return nil, errNoNodes
}

// OpenAttach implements Nodes: it always fails.
func (noNodes) OpenAttach(context.Context, string, string, *corev1.PodAttachOptions) (net.Conn, error) {
	return nil, errNoNodes
}

// OpenPort implements Nodes: it always fails.
func (noNodes) OpenPort(context.Context, string, string, uint16) (net.Conn, error) {
	return nil, errNoNodes
}

// OpenPage implements Nodes: it always fails.
func (noNodes) OpenPage(context.Context, string, string) (io.ReadCloser, error) {
	return nil, errNoNodes
}
