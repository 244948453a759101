// Command skerry is the command line of Skerry: kubectl's own commands, and what kubectl has no words for: local clusters,
// images, join tokens, users, hardware, rebalancing.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/client"
	"skerry.dev/skerry/cmd/skerry/fleet"
	"skerry.dev/skerry/cmd/skerry/image"
	"skerry.dev/skerry/cmd/skerry/kubectl"
	"skerry.dev/skerry/cmd/skerry/up"
)

func main() {
	cmdutil.CheckErr(kubectl.UseLocal(up.Kubeconfig(up.DefaultDataDir), clientcmd.RecommendedHomeFile))
	command(os.Args, genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}).Run(os.Args)
}

func command(args []string, streams genericiooptions.IOStreams) *kubectl.Root {
	root := kubectl.New("skerry", api.BuildVersion, args, streams)
	root.Short = "Containers on machines that lose their link or their power and come back"
	root.Long = `Skerry orchestrates containers on edge and bare-metal machines. It speaks the Kubernetes API: kubectl's commands are
here as they are, beside the verbs that kubectl has no words for.`
	connect := func() (*client.Client, error) { return client.New(root.Kubeconfig()) }
	cluster := func() (image.Cluster, error) { return connect() }
	verbs := []kubectl.Verbs{
		{Message: "Fleet Commands:", Commands: []*cobra.Command{
			fleet.NewTokenCommand(connect), fleet.NewUserCommand(connect), fleet.NewHardwareCommand(connect), fleet.NewRebalanceCommand(connect), image.NewCommand(cluster),
		}},
		{Message: "Local Clusters:", Commands: []*cobra.Command{up.NewCommand(), up.NewLocalCommand()}},
	}
	for _, group := range verbs {
		for _, c := range group.Commands {
			makeInterruptible(c)
		}
	}
	root.Add(verbs...)
	return root
}

// makeInterruptible lets a verb of ours end in order at Ctrl-C, which is then no failure. kubectl's commands see to their own
// signals, or die of them.
func makeInterruptible(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			c.SetContext(ctx)
			err := run(c, args)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
	for _, below := range c.Commands() {
		makeInterruptible(below)
	}
}
