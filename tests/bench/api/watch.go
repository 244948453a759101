package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/bench/server"
)

// watchers is how many hear one event, each on a connection of its own, as that many programs would.
const watchers = 1000

// audience watches all ConfigMaps of a server.
type audience struct {
	server *server.Server
	writer *rest.RESTClient
	heard  chan time.Time // room for an event at each watcher: none waits for the counting
}

// gather starts the watchers and returns when the server has answered all of them. They run in group until ctx ends.
func gather(ctx context.Context, s *server.Server, group *errgroup.Group) (*audience, error) {
	writer, err := s.Client(server.JSON, false)
	if err != nil {
		return nil, err
	}
	a := &audience{server: s, writer: writer, heard: make(chan time.Time, watchers)}
	var list metav1.List
	if err := writer.Get().Namespace(namespace).Resource("configmaps").Param("limit", "1").Do(ctx).Into(&list); err != nil {
		return nil, err
	}
	open := errgroup.Group{}
	open.SetLimit(connections) // handshakes at once
	for range watchers {
		open.Go(func() error {
			stream, err := watch(ctx, s, list.ResourceVersion)
			if err == nil {
				group.Go(func() error { return a.listen(ctx, stream) })
			}
			return err
		})
	}
	return a, open.Wait()
}

func watch(ctx context.Context, s *server.Server, revision string) (io.ReadCloser, error) {
	client, err := s.Client(server.JSON, false)
	if err != nil {
		return nil, err
	}
	stream, err := client.Get().Namespace(namespace).Resource("configmaps").Param("watch", "true").Param("resourceVersion", revision).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch on %s: %w", s.Name, err)
	}
	return stream, nil
}

// listen notes when each event has come.
func (a *audience) listen(ctx context.Context, stream io.ReadCloser) error {
	defer stream.Close()
	for in := bufio.NewReaderSize(stream, 4096); ; {
		_, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // an event is longer than the buffer
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch on %s: %w", a.server.Name, err)
		}
		select {
		case a.heard <- time.Now():
		case <-ctx.Done():
			return nil
		}
	}
}

// event changes one object and returns how long after the request was sent each watcher knew, and what it cost.
func (a *audience) event(ctx context.Context) (delays []time.Duration, cost server.Usage, err error) {
	before, err := a.server.CPU()
	if err != nil {
		return nil, server.Usage{}, err
	}
	n := a.server.Number()
	body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"v%08d"}}}`, annotation, n)
	began := time.Now()
	if err := a.writer.Patch(types.MergePatchType).Namespace(namespace).Resource("configmaps").Name(existing(0)).Body(body).Do(ctx).Error(); err != nil {
		return nil, server.Usage{}, err
	}
	for range watchers {
		select {
		case at := <-a.heard:
			delays = append(delays, at.Sub(began))
		case <-time.After(server.Limit):
			return nil, server.Usage{}, fmt.Errorf("only %d of %d watchers of %s heard an event", len(delays), watchers, a.server.Name)
		case <-ctx.Done():
			return nil, server.Usage{}, ctx.Err()
		}
	}
	if err := pause(ctx, settle); err != nil {
		return nil, server.Usage{}, err
	}
	after, err := a.server.CPU()
	return delays, after.Since(before), err
}

// watches measures how one event reaches all watchers, on the servers one after another: two thousand connections at once
// would be the client's load.
func watches(ctx context.Context, servers []*server.Server, rounds int, goals *section.Goals) (string, error) {
	t := section.NewTable("one event to 1,000 watchers", "first", "p50", "p99", "last", "CPU of the API server", "RSS with them")
	for _, s := range servers {
		row, last, err := watchRow(ctx, s, rounds)
		if err != nil {
			return "", err
		}
		if s == servers[0] {
			section.AtMost(goals, "one event to the last of 1,000 watchers", last, 50*time.Millisecond, section.Duration)
		}
		t.Row(row...)
	}
	return t.String(), nil
}

func watchRow(ctx context.Context, s *server.Server, rounds int) (_ []any, slowest time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	defer func() {
		cancel()
		err = errors.Join(err, group.Wait())
	}()
	a, err := gather(ctx, s, group)
	if err != nil {
		return nil, 0, err
	}
	var first, p50, p99, last, cpu []time.Duration
	for range rounds {
		delays, cost, err := a.event(ctx)
		if err != nil {
			return nil, 0, err
		}
		first, last = append(first, section.Quantile(delays, 0)), append(last, section.Quantile(delays, 1))
		p50, p99 = append(p50, section.Median(delays)), append(p99, section.Quantile(delays, 0.99))
		cpu = append(cpu, cost.API)
	}
	resident, _, err := s.Resident()
	row := []any{s.Name}
	for _, samples := range [][]time.Duration{first, p50, p99, last, cpu} {
		row = append(row, section.Duration(section.Median(samples)))
	}
	return append(row, section.Bytes(resident)), section.Median(last), err
}
