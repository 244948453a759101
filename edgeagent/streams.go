package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/usage"
	"skerry.dev/skerry/hwprobe"
	"skerry.dev/skerry/messaging"
)

// streams serves the byte streams that the coordinator opens on behalf of people.
type streams struct {
	node  *node
	loop  *loop
	meter *usage.Meter
}

// check says whether a stream can be served. The text of an error goes to who asked.
func (s *streams) check(ctx context.Context, req messaging.OpenRequest) error {
	switch req.Kind {
	case "logs":
		r, err := logs.ParseRequest(req.Params, time.Now())
		if err != nil {
			return err
		}
		return s.checkLogs(ctx, r)
	case "exec":
		_, _, err := s.execTarget(ctx, req.Params)
		return err
	case "attach":
		_, err := s.instance(ctx, req.Params)
		return err
	case "portforward":
		_, err := s.forwardTarget(ctx, req.Params)
		return err
	case "page":
		if !slices.Contains(usage.Pages, req.Params["page"]) {
			return fmt.Errorf("this node has no page %.80q", req.Params["page"])
		}
		return nil
	default:
		return fmt.Errorf("this node does not serve streams of kind %q", req.Kind)
	}
}

// checkLogs refuses, in the kubelet's words, what has no log yet.
func (s *streams) checkLogs(ctx context.Context, r logs.Request) error {
	w := s.loop.worker(r.UID)
	if w == nil {
		return fmt.Errorf("pod with uid %q is not on this node", r.UID)
	}
	err := fmt.Errorf("container %s is not valid for pod %s", r.Container, r.UID)
	w.call(ctx, func() {
		if pod.Spec(w.want.Pod, r.Container) == nil {
			return
		}
		c := w.obs.Containers[r.Container]
		switch {
		case !c.Ran:
			err = fmt.Errorf("container %q in pod %q is waiting to start: %s", r.Container, w.want.Pod.Name, w.waiting(r.Container))
		case r.Previous && c.Attempt == 0:
			err = fmt.Errorf("previous terminated container %q in pod %q not found", r.Container, w.want.Pod.Name)
		default:
			err = nil
		}
	})
	return err
}

// waiting is why a container has not started, as its status says.
func (w *worker) waiting(container string) string {
	if s := statuses(&w.obs.Previous)[container]; s != nil && s.State.Waiting != nil {
		return s.State.Waiting.Reason
	}
	return "ContainerCreating"
}

// serve works until the stream ends, and closes it.
func (s *streams) serve(ctx context.Context, req messaging.OpenRequest, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = conn.Close() }() // the other side sees the end, or has gone
	var err error
	switch req.Kind {
	case "logs":
		err = s.serveLogs(ctx, cancel, req, conn)
	case "exec":
		err = s.serveExec(ctx, req, conn)
	case "attach":
		err = s.serveAttach(ctx, req, conn)
	case "portforward":
		err = s.serveForward(ctx, req, conn)
	case "page":
		err = s.servePage(ctx, req, conn)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
		s.node.log.Warn("stream ended", "kind", req.Kind, "uid", req.Params["uid"], "err", err)
	}
}

func (s *streams) serveLogs(ctx context.Context, cancel func(), req messaging.OpenRequest, conn net.Conn) error {
	r, err := logs.ParseRequest(req.Params, time.Now())
	if err != nil {
		return err
	}
	go awaitEnd(conn, cancel)
	return s.node.logs.Copy(ctx, conn, r, s.ended(ctx, r))
}

// awaitEnd cancels when the other side, which has nothing to say, closes. It ends with the connection.
func awaitEnd(conn net.Conn, cancel func()) {
	_, _ = io.Copy(io.Discard, conn)
	cancel()
}

// ended says whether the instance whose log is followed has ended.
func (s *streams) ended(ctx context.Context, r logs.Request) func() bool {
	first := ""
	return func() bool {
		w := s.loop.worker(r.UID)
		if w == nil {
			return true
		}
		over := true
		w.call(ctx, func() {
			c := w.obs.Containers[r.Container]
			if first == "" {
				first = c.ID
			}
			over = c.State != pod.Running || c.ID != first
		})
		return over
	}
}

// servePage writes a page of figures.
func (s *streams) servePage(ctx context.Context, req messaging.OpenRequest, conn net.Conn) error {
	cpu, memory, err := hwprobe.Totals(ctx)
	if err != nil {
		return err
	}
	page, err := s.meter.Page(ctx, req.Params["page"], time.Now(), usage.Machine{CPUSeconds: cpu, MemoryBytes: memory})
	if err != nil {
		return err
	}
	_, err = conn.Write(page)
	return err
}
