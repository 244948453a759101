// Command soak kills processes of a real local cluster at random, with kill -9 and power cuts, while a client keeps
// writing, and then checks that nothing was lost: every acknowledged write is there, the posted state is reached, and no
// container runs that nobody asked for. `make soak` runs it for at most ten minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"skerry.dev/skerry/tests/soak/storm"
)

func main() {
	o := storm.Options{Out: os.Stdout}
	flag.DurationVar(&o.Duration, "duration", 10*time.Minute, "how long to kill at most")
	flag.IntVar(&o.Kills, "kills", 1000, "how many kills")
	flag.Int64Var(&o.Seed, "seed", time.Now().UnixNano()%1_000_000, "of the random choices")
	flag.IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := storm.Run(ctx, o)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
