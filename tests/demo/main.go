// Command demo runs Skerry's main job on this machine, from an image's source to a rolled-back rollout, through power cuts
// and pulled cables, and says what it measured. `make demo` builds what it needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"skerry.dev/skerry/tests/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	d := &demo{began: time.Now()}
	dir, err := os.MkdirTemp("", "skerry-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := d.step(ctx, "three machines and a coordinator", func(ctx context.Context) (err error) {
		d.cluster, err = cluster.Start(ctx, cluster.Options{Nodes: 3, DataDir: dir})
		return err
	}); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.cluster.Stop())
		left, leftErr := cluster.Leftovers(context.WithoutCancel(ctx), dir)
		if err = errors.Join(err, leftErr); len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %q", left))
		}
		if err == nil {
			fmt.Printf("\nall of it in %s; nothing is left behind: no process, mount, control group, namespace or rule\n", since(d.began))
		}
	}()
	for _, s := range d.story() {
		if err := d.step(ctx, s.title, s.do); err != nil {
			return err
		}
	}
	d.figures()
	return nil
}

// demo is the state of the story.
type demo struct {
	cluster *cluster.Cluster
	began   time.Time
	number  int
	results []figure
}

type figure struct{ name, value string }

type scene struct {
	title string
	do    func(context.Context) error
}

func (d *demo) step(ctx context.Context, title string, do func(context.Context) error) error {
	d.number++
	fmt.Printf("\n\033[1m%2d. %s\033[0m\n", d.number, title)
	began := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	fmt.Printf("    \033[2m%s\033[0m\n", since(began))
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }

func (d *demo) measure(name string, took time.Duration) {
	d.results = append(d.results, figure{name, took.Round(time.Millisecond).String()})
	d.say("%s: %s", name, took.Round(time.Millisecond))
}

func (d *demo) note(name, value string) { d.results = append(d.results, figure{name, value}) }

func (d *demo) figures() {
	fmt.Printf("\n\033[1mmeasured in this run\033[0m\n")
	for _, f := range d.results {
		fmt.Printf("    %-52s %s\n", f.name, f.value)
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
