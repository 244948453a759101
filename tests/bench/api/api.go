// Package api measures Skerry's coordinator beside upstream's API server and etcd: the same client makes the same requests
// to both, in turns, and the kernel says what the servers used.
package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/bench/server"
)

// Section is the chapter about the API.
type Section struct{}

// Name is "api".
func (Section) Name() string { return "api" }

// effort is how much is measured.
type effort struct {
	starts, rounds   int
	length           time.Duration // of a round
	quiet            time.Duration // before memory is read
	listings, events int
	pods, maps       int64
}

func effortOf(quick bool) effort {
	if quick {
		return effort{starts: 1, rounds: 2, length: 300 * time.Millisecond, quiet: 3 * time.Second, listings: 2, events: 3, pods: 2000, maps: 1000}
	}
	return effort{starts: 3, rounds: 5, length: 800 * time.Millisecond, quiet: 12 * time.Second, listings: 7, events: 25, pods: 10_000, maps: 5_000}
}

// bench is one run. Skerry comes first in all tables.
type bench struct {
	effort
	servers []*server.Server
	goals   *section.Goals
	out     strings.Builder
}

// Run measures requests on empty servers, then what many objects cost on others.
func (Section) Run(ctx context.Context, quick bool, goals *section.Goals) (markdown string, err error) {
	b := &bench{effort: effortOf(quick), goals: goals}
	b.out.WriteString(introduction)
	if err := b.phase(ctx, b.start, b.operations); err != nil {
		return "", err
	}
	err = b.phase(ctx, b.startAgain, b.fill, b.lists, b.watch, b.restart)
	return b.out.String(), err
}

// phase makes both servers, measures, and stops them.
func (b *bench) phase(ctx context.Context, steps ...func(context.Context) error) (err error) {
	b.servers = nil
	defer func() { err = errors.Join(err, b.stop()) }()
	for _, create := range []func() (*server.Server, error){skerry, server.Kubernetes} {
		s, err := create()
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func skerry() (*server.Server, error) { return server.Skerry() }

const introduction = `## API

` + "`skerry-coordinator`" + ` beside Kubernetes' own kube-apiserver 1.37.2 over etcd 3.7.0, on loopback. Both with TLS, token authentication, their
defaults, and every write synced to disk before it is acknowledged. The coordinator's figures include its store, its
scheduler and its controllers, which are the same process; kube-apiserver has none of the latter beside it. The client is
client-go's, with 16 connections and one request at a time on each, without decoding the answers. It shares the cores with
the servers, so requests per second are a figure of client and server together, while CPU is the server's alone.

`

func (b *bench) stop() error {
	var err error
	for _, s := range b.servers {
		err = errors.Join(err, s.Stop())
	}
	return err
}

func (b *bench) start(ctx context.Context) error {
	t := section.NewTable("on an empty state", "first start to first answered GET", "RSS idle", "RSS of its store", "CPU idle, per minute")
	for _, s := range b.servers {
		took, err := s.Start(ctx)
		if err != nil {
			return err
		}
		if err := prepare(ctx, s); err != nil {
			return err
		}
		idle, err := idle(ctx, s, b.quiet)
		if err != nil {
			return err
		}
		if s == b.servers[0] {
			section.AtMost(b.goals, "resident memory of an idle coordinator", idle.resident, 60_000_000, section.Bytes)
		}
		t.Row(s.Name, section.Duration(took), section.Bytes(idle.resident), storeBytes(s, idle.store), section.Duration(idle.cpu.Total()*time.Duration(time.Minute/b.quiet)))
	}
	b.out.WriteString("### Start and idle\n\n" + t.String() + "\n")
	return nil
}

func (b *bench) startAgain(ctx context.Context) error {
	for _, s := range b.servers {
		if _, err := s.Start(ctx); err != nil {
			return err
		}
		if err := prepare(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// idleness is what a server uses when nobody asks for anything.
type idleness struct {
	resident, store int64
	cpu             server.Usage
}

func idle(ctx context.Context, s *server.Server, length time.Duration) (idleness, error) {
	if err := pause(ctx, length); err != nil { // the start's own work
		return idleness{}, err
	}
	before, err := s.CPU()
	if err != nil {
		return idleness{}, err
	}
	if err := pause(ctx, length); err != nil {
		return idleness{}, err
	}
	after, err := s.CPU()
	if err != nil {
		return idleness{}, err
	}
	i := idleness{cpu: after.Since(before)}
	i.resident, i.store, err = s.Resident()
	return i, err
}

func storeBytes(s *server.Server, bytes int64) string {
	if !s.HasStore() {
		return "in it"
	}
	return section.Bytes(bytes)
}

func (b *bench) operations(ctx context.Context) error {
	b.out.WriteString("### Requests\n\n")
	speed := section.NewTable("request", "Skerry per second", "kube-apiserver per second", "Skerry p50", "kube-apiserver p50", "Skerry p99", "kube-apiserver p99")
	cost := section.NewTable("server CPU per request", "Skerry", "kube-apiserver", "and etcd", "kube-apiserver / Skerry", "both / Skerry")
	for _, k := range kinds {
		for _, s := range b.servers {
			if err := populate(ctx, s, k, populatedObjects); err != nil {
				return err
			}
		}
		for _, media := range []string{server.JSON, server.Protobuf} {
			if err := b.measure(ctx, k, media, speed, cost); err != nil {
				return err
			}
		}
		for _, s := range b.servers {
			if err := remove(ctx, s, k); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(&b.out, "Medians of %d rounds of %s, in turns. PATCH is a merge patch of one annotation, PUT the whole object; POST makes new objects.\n\n%s\n", b.rounds, b.length, speed)
	fmt.Fprintf(&b.out, "CPU is user and kernel time of the process, with what it does about the requests within %s after the last.\n\n%s\n%s\n", settle, cost, anatomy)
	return nil
}

// anatomy is from profiles, which are not made here.
const anatomy = `Where a write's CPU goes (a profile of POST ConfigMap, when this was written): a third is the request itself, of which most is
decoding, the rules and the answer; a fifth is HTTP/2 and TLS beneath it; a quarter JetStream, of which a third is the sync that the
writes of one round share and as much the staging of a batch; a twentieth each the view with the automation stream, and planning,
which a change sets off whoever made it, and which kube-apiserver leaves to other processes; the rest is garbage collection and
switching between goroutines.
`

func (b *bench) measure(ctx context.Context, k kind, media string, speed, cost *section.Table) error {
	clients := make([][]*rest.RESTClient, len(b.servers))
	for i, s := range b.servers {
		var err error
		if clients[i], err = newClients(s, media); err != nil {
			return err
		}
		for _, c := range clients[i] {
			defer c.Client.CloseIdleConnections()
		}
	}
	all, err := operations(k, media)
	if err != nil {
		return err
	}
	for _, o := range all {
		results, err := b.compare(ctx, o, clients)
		if err != nil {
			return err
		}
		ours, theirs := results[0], results[1]
		speed.Row(o, section.Count(int64(ours.perSecond)), section.Count(int64(theirs.perSecond)), section.Duration(ours.p50), section.Duration(theirs.p50), section.Duration(ours.p99), section.Duration(theirs.p99))
		if o.verb != "PUT" { // which is no goal, and costs as much as PATCH
			b.goals.Times("server CPU of "+o.String(), ours.cpu.API, theirs.cpu.Total(), 5)
		}
		cost.Row(o, section.Duration(ours.cpu.API), section.Duration(theirs.cpu.API), section.Duration(theirs.cpu.Store),
			section.Ratio(theirs.cpu.API, ours.cpu.API), section.Ratio(theirs.cpu.Total(), ours.cpu.API))
	}
	return nil
}

// compare measures one operation on all servers in turns, after a short round that opens connections and fills caches.
func (b *bench) compare(ctx context.Context, o operation, clients [][]*rest.RESTClient) ([]summary, error) {
	rounds := make([][]round, len(b.servers))
	for n := range b.rounds + 1 {
		for i, s := range b.servers {
			length := b.length
			if n == 0 {
				length /= 5
			}
			r, err := o.run(ctx, s, clients[i], length)
			if err != nil {
				return nil, err
			}
			if n > 0 {
				rounds[i] = append(rounds[i], r)
			}
		}
	}
	out := make([]summary, len(b.servers))
	for i := range rounds {
		out[i] = summarize(rounds[i])
	}
	return out, nil
}

func (b *bench) fill(ctx context.Context) error {
	amount := fmt.Sprintf("with %s pods and %s ConfigMaps", section.Count(b.pods), section.Count(b.maps))
	t := section.NewTable(amount, "RSS when the last was written", "RSS later", "RSS of its store")
	for _, s := range b.servers {
		if err := populate(ctx, s, kinds[0], b.maps); err != nil {
			return err
		}
		if err := populate(ctx, s, kinds[1], b.pods); err != nil {
			return err
		}
		full, _, err := s.Resident()
		if err != nil {
			return err
		}
		idle, err := idle(ctx, s, b.quiet)
		if err != nil {
			return err
		}
		if s == b.servers[0] {
			section.AtMost(b.goals, "resident memory "+amount, full, 300_000_000, section.Bytes)
		}
		t.Row(s.Name, section.Bytes(full), section.Bytes(idle.resident), storeBytes(s, idle.store))
	}
	fmt.Fprintf(&b.out, "### Memory\n\nOf servers that have done nothing else. Later is after %s of quiet.\n\n%s\n", 2*b.quiet, t)
	return nil
}

func (b *bench) lists(ctx context.Context) error {
	text, err := lists(ctx, b.servers, b.listings, b.goals)
	b.out.WriteString("### Lists\n\nOne client, no chunks; medians.\n\n" + text + "\n")
	return err
}

func (b *bench) watch(ctx context.Context) error {
	text, err := watches(ctx, b.servers, b.events, b.goals)
	fmt.Fprintf(&b.out, "### Watches\n\nEach watcher has a connection of its own. Time runs from before the PATCH is sent; medians of %d events.\n\n%s\n", b.events, text)
	return err
}

func (b *bench) restart(ctx context.Context) error {
	t := section.NewTable("start with that state", "process start to first answered GET", "RSS after it")
	took := make([][]time.Duration, len(b.servers))
	for range b.starts {
		for i, s := range b.servers {
			one, err := s.Restart(ctx)
			if err != nil {
				return err
			}
			took[i] = append(took[i], one)
		}
	}
	for i, s := range b.servers {
		idle, err := idle(ctx, s, b.quiet)
		if err != nil {
			return err
		}
		t.Row(s.Name, section.Duration(section.Median(took[i])), section.Bytes(idle.resident))
	}
	b.out.WriteString("### Restart\n\n" + t.String() + "\n")
	return nil
}
