package api

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/bench/server"
)

// operation is one kind of request, made by all clients as fast as they get answers.
type operation struct {
	verb  string
	kind  kind
	media string
	// request makes one request; no two to a server have the same n.
	request func(ctx context.Context, c *rest.RESTClient, n int64) error
}

func (o operation) String() string {
	media := "JSON"
	if o.media == server.Protobuf {
		media = "protobuf"
	}
	return fmt.Sprintf("%s %s, %s", o.verb, o.kind.name, media)
}

// operations of one kind of object in one encoding. Patches are JSON always, what comes back is not.
func operations(k kind, media string) ([]operation, error) {
	whole, err := newTemplate(media, k.make(placeholderName))
	if err != nil {
		return nil, err
	}
	create, err := newTemplate(media, made(k))
	if err != nil {
		return nil, err
	}
	return []operation{
		{"GET", k, media, func(ctx context.Context, c *rest.RESTClient, n int64) error {
			return c.Get().Namespace(namespace).Resource(k.plural).Name(existing(n)).Do(ctx).Error()
		}},
		{"POST", k, media, func(ctx context.Context, c *rest.RESTClient, n int64) error {
			body := create.with(placeholderName, nameOf("create", n))
			return c.Post().Namespace(namespace).Resource(k.plural).SetHeader("Content-Type", media).Body([]byte(body)).Do(ctx).Error()
		}},
		{"PATCH", k, media, func(ctx context.Context, c *rest.RESTClient, n int64) error {
			body := fmt.Sprintf(`{"metadata":{"annotations":{%q:"v%08d"}}}`, annotation, n)
			return c.Patch(types.MergePatchType).Namespace(namespace).Resource(k.plural).Name(existing(n)).Body([]byte(body)).Do(ctx).Error()
		}},
		{"PUT", k, media, func(ctx context.Context, c *rest.RESTClient, n int64) error {
			body := whole.with(placeholderName, existing(n)).value(n)
			return c.Put().Namespace(namespace).Resource(k.plural).Name(existing(n)).SetHeader("Content-Type", media).Body([]byte(body)).Do(ctx).Error()
		}},
	}, nil
}

// existing is the name of an object that is there from the start; requests that follow each other go to different ones.
func existing(n int64) string { return nameOf("object", n%populatedObjects) }

// round is one measurement of one operation on one server.
type round struct {
	operations int
	took       time.Duration
	latencies  []time.Duration
	cpu        server.Usage
}

func (r round) perSecond() float64 { return float64(r.operations) / r.took.Seconds() }

// settle is how long a server may go on working on what it has answered already: that work is counted too.
const settle = 200 * time.Millisecond

// run lets all clients work for a time.
func (o operation) run(ctx context.Context, s *server.Server, clients []*rest.RESTClient, length time.Duration) (round, error) {
	before, err := s.CPU()
	if err != nil {
		return round{}, err
	}
	began := time.Now()
	latencies, errs := make([][]time.Duration, len(clients)), make([]error, len(clients))
	var group sync.WaitGroup
	for i, c := range clients {
		group.Go(func() { latencies[i], errs[i] = o.work(ctx, c, s, began.Add(length)) })
	}
	group.Wait()
	r := round{took: time.Since(began)}
	if at := slices.IndexFunc(errs, func(err error) bool { return err != nil }); at >= 0 { // one says enough
		return r, fmt.Errorf("%s on %s: %w", o, s.Name, errs[at])
	}
	if err := pause(ctx, settle); err != nil {
		return r, err
	}
	after, err := s.CPU()
	r.cpu = after.Since(before)
	for _, l := range latencies {
		r.latencies = append(r.latencies, l...)
	}
	r.operations = len(r.latencies)
	return r, err
}

// work makes requests one after another until the time is up.
func (o operation) work(ctx context.Context, c *rest.RESTClient, s *server.Server, until time.Time) ([]time.Duration, error) {
	var latencies []time.Duration
	for began := time.Now(); began.Before(until); {
		if err := o.request(ctx, c, s.Number()); err != nil {
			return latencies, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		began = now
	}
	return latencies, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// summary is the median over rounds of each figure.
type summary struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       server.Usage // for one operation
}

func summarize(rounds []round) summary {
	var perSecond []float64
	var p50, p99, api, store []time.Duration
	for _, r := range rounds {
		perSecond = append(perSecond, r.perSecond())
		p50 = append(p50, section.Median(r.latencies))
		p99 = append(p99, section.Quantile(r.latencies, 0.99))
		one := r.cpu.Per(r.operations)
		api, store = append(api, one.API), append(store, one.Store)
	}
	return summary{section.Median(perSecond), section.Median(p50), section.Median(p99), server.Usage{API: section.Median(api), Store: section.Median(store)}}
}
