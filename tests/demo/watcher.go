package main

import (
	"context"
	"fmt"
	"time"

	"skerry.dev/skerry/tests/cluster"
)

// watcher asks a URL again and again, each time on a new connection, until it is stopped.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}

	asked      int
	unanswered []error
	last       string
}

// pace leaves the machine some time for the rollout itself.
const pace = 5 * time.Millisecond

func ask(ctx context.Context, pid int, url string) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			page, err := cluster.FetchIn(context.WithoutCancel(ctx), pid, url)
			w.asked++
			if err != nil {
				w.unanswered = append(w.unanswered, fmt.Errorf("request %d: %w", w.asked, err))
			} else {
				w.last = page
			}
			time.Sleep(pace)
		}
	}()
	return w
}

// stop ends the asking and says how it went.
func (w *watcher) stop() (asked int, unanswered []error, last string) {
	w.cancel()
	<-w.done
	return w.asked, w.unanswered, w.last
}
