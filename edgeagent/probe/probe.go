// Package probe asks a container how it is: by HTTP, TCP, gRPC or a command, once per call.
//
// What an answer means for the container (thresholds, restarts) is edgeagent/pod's to decide; when to ask likewise.
// Probes go from the node straight to the pod's address: no proxy from the environment, no kept-alive connection.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxOutput is how much of an answer is kept for the event, as in the kubelet.
const maxOutput = 10 << 10

// Exec runs a command in the container and returns its exit code and output. timedOut says that it was killed for taking longer
// than timeout.
type Exec func(ctx context.Context, args []string, timeout time.Duration) (code int, output []byte, timedOut bool, err error)

// Target is the container to ask.
type Target struct {
	Container *corev1.Container
	PodIP     string // where the pod's ports are
	Exec      Exec
}

// Result is the answer.
type Result struct {
	Passed bool
	Output string // why not, in the kubelet's words
}

// ErrNoHandler means that a probe names no way to ask.
var ErrNoHandler = errors.New("probe has no handler")

// Run asks once. An error means that nothing was learnt of the container: it is neither a pass nor a failure.
func Run(ctx context.Context, spec *corev1.Probe, t Target) (Result, error) {
	timeout := time.Second
	if spec.TimeoutSeconds > 0 {
		timeout = time.Duration(spec.TimeoutSeconds) * time.Second
	}
	if spec.Exec != nil {
		return t.exec(ctx, spec.Exec, timeout)
	}
	ask, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := t.dial(ask, spec)
	if err == nil && ctx.Err() != nil {
		return Result{}, ctx.Err() // the caller gave up, which says nothing about the container
	}
	return res, err
}

func (t Target) dial(ctx context.Context, spec *corev1.Probe) (Result, error) {
	switch {
	case spec.HTTPGet != nil:
		return t.HTTP(ctx, spec.HTTPGet)
	case spec.TCPSocket != nil:
		return t.tcp(ctx, spec.TCPSocket)
	case spec.GRPC != nil:
		return t.grpc(ctx, spec.GRPC)
	default:
		return Result{}, ErrNoHandler
	}
}

func (t Target) exec(ctx context.Context, a *corev1.ExecAction, timeout time.Duration) (Result, error) {
	code, output, timedOut, err := t.Exec(ctx, a.Command, timeout)
	switch {
	case err != nil:
		return Result{}, err
	case timedOut:
		return Result{Output: fmt.Sprintf("command timed out: %q timed out after %s", a.Command, timeout)}, nil
	case code != 0:
		return Result{Output: string(output)}, nil
	default:
		return Result{Passed: true}, nil
	}
}

func (t Target) tcp(ctx context.Context, a *corev1.TCPSocketAction) (Result, error) {
	address, err := t.address(a.Host, a.Port)
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	_ = conn.Close() // it was open: that is the answer
	return Result{Passed: true}, nil
}

// address resolves a port number or the name of one of the container's ports.
func (t Target) address(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = t.PodIP
	}
	number, err := t.port(port)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}

func (t Target) port(port intstr.IntOrString) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range t.Container.Ports {
			if p.Name == port.StrVal {
				number = int(p.ContainerPort)
			}
		}
	}
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("container %s has no port %q", t.Container.Name, port.String())
	}
	return number, nil
}

// dial leaves no TIME_WAIT behind for long: a node probes for years.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(1) // only a courtesy to the kernel
	}
	return conn, nil
}
