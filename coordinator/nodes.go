package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
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
	return n.open(ctx, node, "logs", logParams(podUID, container, o))
}

func logParams(podUID, container string, o *corev1.PodLogOptions) map[string]string {
	p := map[string]string{"uid": podUID, "container": container}
	for name, set := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if set {
			p[name] = "true"
		}
	}
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

func (n *nodes) open(ctx context.Context, node, kind string, params map[string]string) (io.ReadCloser, error) {
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
