package keepertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"skerry.dev/skerry/edgeagent/keeper"
)

// replaced: everything goes on under the keeper's next image, in every state, with the same processes, streams and exit codes.
func replaced(w *world) {
	ctx := w.t.Context()
	w.run(w.spec("trap", "trap", "7"))
	w.output("trap", "ready")
	must(w.t, w.client.Create(ctx, w.spec("made", "exit", "3")))
	once, screen := w.spec("once", "echo"), w.spec("screen", "size")
	once.Stdin, once.StdinOnce = true, true
	screen.Stdin, screen.Terminal = true, true
	w.run(once)
	w.run(screen)
	w.finish(w.spec("over", "exit", "5"))
	before, err := w.client.List(ctx)
	must(w.t, err)
	for range 3 {
		w.keeper.Replace(w.t)
	}
	after, err := w.client.List(ctx)
	must(w.t, err)
	if b, a := fmt.Sprint(shown(before)), fmt.Sprint(shown(after)); a != b {
		w.t.Errorf("the next image knows\n%s\nwant\n%s", a, b)
	}
	must(w.t, w.client.Kill(ctx, "trap", syscall.SIGTERM, false))
	must(w.t, w.client.Start(ctx, "made"))
	a := w.attach("once", true)
	w.says(a, "still here\n", "still here\n")
	must(w.t, a.in.Close())
	w.over(a)
	b := w.attach("screen", true)
	must(w.t, w.client.Resize(ctx, "screen", 91, 17))
	w.says(b, "", "91 17\r\n")
	must(w.t, errors.Join(b.in.Close(), b.Close(), b.end.Close()))
	for id, code := range map[string]int{"trap": 7, "made": 3, "once": 0, "over": 5} {
		if e := w.exit(id); e.Code != code || e.Unknown {
			w.t.Errorf("%s: got %+v, want code %d", id, e, code)
		}
	}
	must(w.t, w.client.Kill(ctx, "screen", syscall.SIGKILL, true))
	if e := w.exit("screen"); e.Signal != 9 || e.Unknown {
		w.t.Errorf("screen: got %+v", e)
	}
}

// shown is what must not change of containers.
func shown(list []keeper.Container) (out []string) {
	for _, c := range list {
		out = append(out, fmt.Sprint(c.ID, c.State, c.PID, c.StartedAt.UnixNano(), c.Exit))
	}
	return out
}

// replacements is how often the keeper is replaced under load at least, passing how many containers start and end meanwhile, workers at a
// time.
const (
	replacements = 25
	passing      = 60
	workers      = 6
)

// replacedUnderLoad: containers start, print and end while the keeper is replaced again and again. No request fails, no exit code and
// no line of output is lost.
func replacedUnderLoad(w *world) {
	w.run(w.spec("stays", "trap", "9"))
	w.output("stays", "ready")
	var wg sync.WaitGroup
	var over atomic.Bool
	var ran atomic.Int64
	for i := range workers {
		wg.Go(func() {
			for n := 0; !over.Load() && !w.t.Failed(); n++ {
				if err := w.passes(fmt.Sprintf("c%d-%d", i, n), n%100); err != nil {
					w.t.Errorf("container %d of worker %d: %v", n, i, err)
				}
				ran.Add(1)
			}
		})
	}
	replaced := 0
	for ; (replaced < replacements || ran.Load() < passing) && !w.t.Failed(); replaced++ {
		w.keeper.Replace(w.t)
	}
	over.Store(true)
	wg.Wait()
	w.t.Logf("%d containers ran while the keeper was replaced %d times", ran.Load(), replaced)
	must(w.t, w.client.Kill(w.t.Context(), "stays", syscall.SIGTERM, false))
	if e := w.exit("stays"); e.Code != 9 || e.Unknown {
		w.t.Errorf("got %+v", e)
	}
}

// passes runs a container that prints and ends with code, and removes it.
func (w *world) passes(id string, code int) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := errors.Join(w.client.Create(ctx, w.spec(id, "says", fmt.Sprint(code))), w.client.Start(ctx, id)); err != nil {
		return err
	}
	e, err := w.ends(ctx, id)
	if err != nil {
		return err
	}
	if e.Code != code || e.Unknown {
		return fmt.Errorf("it ended with %+v, want %d", e, code)
	}
	if log := w.output(id, "says"); !strings.Contains(log, fmt.Sprintf("says %d\n", code)) {
		return fmt.Errorf("it printed %q", log)
	}
	return w.client.Delete(ctx, id)
}

// ends waits for an exit, as an agent does: a keeper that goes is asked again.
func (w *world) ends(ctx context.Context, id string) (exit keeper.Exit, err error) {
	found := errors.New("found")
	for ctx.Err() == nil {
		err = w.client.Exits(ctx, 0, func(e keeper.Exit) error {
			if e.ID == id {
				exit = e
				return found
			}
			return nil
		})
		if errors.Is(err, found) {
			return exit, nil
		}
		if !errors.Is(err, keeper.ErrUnavailable) {
			return exit, err
		}
	}
	return exit, err
}
