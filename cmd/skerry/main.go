// Command skerry is the command line of Skerry: it runs local clusters, builds and pushes images, and does what kubectl
// has no words for: join tokens, hardware, rebalancing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/client"
	"skerry.dev/skerry/cmd/skerry/fleet"
	"skerry.dev/skerry/cmd/skerry/image"
	"skerry.dev/skerry/cmd/skerry/up"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	interrupted := errors.Is(err, context.Canceled) && ctx.Err() != nil
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "skerry:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "skerry",
		Short: "Containers on machines that lose their link or their power and come back",
		Long: `Skerry orchestrates containers on edge and bare-metal machines. It speaks the Kubernetes API: use kubectl and helm for
workloads, and this program for what they have no words for.`,
		Version:       api.BuildVersion,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var o client.Options
	connect := func() (*client.Client, error) { return client.New(o) }
	cluster := func() (image.Cluster, error) { return client.New(o) }
	for _, cmd := range []*cobra.Command{
		image.NewCommand(cluster),
		fleet.NewTokenCommand(connect), fleet.NewHardwareCommand(connect), fleet.NewRebalanceCommand(connect),
	} {
		o.AddFlags(cmd.PersistentFlags())
		root.AddCommand(cmd)
	}
	root.AddCommand(up.NewCommand(), up.NewLocalCommand())
	return root
}
