package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/channels"
)

// nodes reaches into nodes for the API server: over the connection that the node opened, so that a node behind any NAT
// serves logs as one next door.
type nodes struct {
	conn   *nats.Conn
	signer *messaging.Signer
}

const openTimeout = 10 * time.Second

// OpenLog is apiserver.Nodes'.
func (n *nodes) OpenLog(ctx context.Context, node, podUID, container string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	conn, err := n.open(ctx, node, "logs", logParams(podUID, container, o))
	if err != nil {
		return nil, err
	}
	return &boundConn{Conn: conn, stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

// OpenPage is apiserver.Nodes'.
func (n *nodes) OpenPage(ctx context.Context, node, page string) (io.ReadCloser, error) {
	conn, err := n.open(ctx, node, "page", map[string]string{"page": page})
	if err != nil {
		return nil, err
	}
	return &boundConn{Conn: conn, stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

// boundConn is a connection that a context closes.
type boundConn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c *boundConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// OpenExec is apiserver.Nodes'.
func (n *nodes) OpenExec(ctx context.Context, node, podUID string, o *corev1.PodExecOptions) (net.Conn, error) {
	command, err := json.Marshal(o.Command)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	p := sessionParams(podUID, o.Container, map[string]bool{"stdin": o.Stdin, "stdout": o.Stdout, "stderr": o.Stderr, "tty": o.TTY})
	p["command"] = string(command)
	return n.open(ctx, node, "exec", p)
}

// OpenAttach is apiserver.Nodes'.
func (n *nodes) OpenAttach(ctx context.Context, node, podUID string, o *corev1.PodAttachOptions) (net.Conn, error) {
	p := sessionParams(podUID, o.Container, map[string]bool{"stdin": o.Stdin, "stdout": o.Stdout, "stderr": o.Stderr, "tty": o.TTY})
	return n.open(ctx, node, "attach", p)
}

// OpenPort is apiserver.Nodes'. The node says first whether it has reached the port.
func (n *nodes) OpenPort(ctx context.Context, node, podUID string, port uint16) (net.Conn, error) {
	conn, err := n.open(ctx, node, "portforward", map[string]string{"uid": podUID, "port": strconv.Itoa(int(port))})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := reached(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func reached(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(openTimeout)); err != nil {
		return err
	}
	_, frame, err := channels.NewReader(conn).Next()
	if err != nil {
		return fmt.Errorf("the node does not say whether it reaches the port: %w", err)
	}
	var answer channels.Exit
	if err := json.Unmarshal(frame, &answer); err != nil {
		return fmt.Errorf("answer of the node: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return conn.SetReadDeadline(time.Time{})
}

func sessionParams(podUID, container string, flags map[string]bool) map[string]string {
	p := map[string]string{"uid": podUID, "container": container}
	for name, set := range flags {
		if set {
			p[name] = "true"
		}
	}
	return p
}

func logParams(podUID, container string, o *corev1.PodLogOptions) map[string]string {
	p := sessionParams(podUID, container, map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps})
	for name, value := range map[string]*int64{"tailLines": o.TailLines, "sinceSeconds": o.SinceSeconds, "limitBytes": o.LimitBytes} {
		if value != nil {
			p[name] = strconv.FormatInt(*value, 10)
		}
	}
	if o.SinceTime != nil {
		p["sinceTime"] = o.SinceTime.UTC().Format(time.RFC3339Nano)
	}
	return p
}

func (n *nodes) open(ctx context.Context, node, kind string, params map[string]string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, err := messaging.OpenStream(ctx, n.conn, messaging.OpenParams{
		RequestSubject: messaging.CommandSubject(node, "open"), Node: node, Kind: kind, Params: params, Sign: n.signer,
	})
	var refused *messaging.RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, apierrors.NewBadRequest(refused.Reason)
	case err != nil:
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s cannot be reached: %v", node, err))
	}
	return conn, nil
}
