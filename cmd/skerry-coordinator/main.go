// Command skerry-coordinator runs the control side of a Skerry cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // edge machines may have no time zones of their own, and CronJobs name them

	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/configs"
	"skerry.dev/skerry/coordinator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-coordinator:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "skerry-coordinator",
		Short: "Run the control side of a Skerry cluster",
		Long: `skerry-coordinator serves the Kubernetes API, the web page and the image registry on one address, keeps the cluster's
state in an embedded NATS JetStream server, schedules pods, and gives the nodes that connect to it their work.

Settings come from the file, then from SKERRY_* in the environment (api.listen is SKERRY_API_LISTEN), then from flags.
The administrator's kubeconfig is written to STATE-DIR/` + api.AdminKubeconfig + `.`,
		Example:       "  skerry-coordinator --config /etc/skerry/coordinator.yaml\n  skerry-coordinator --state-dir /var/lib/skerry --api.listen 0.0.0.0:6443",
		Version:       api.BuildVersion,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := coordinator.DefaultConfig()
			if err := configs.Load(&config, file, cmd.Flags()); err != nil {
				return err
			}
			log, err := config.Log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			c, err := coordinator.New(config, log)
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	d := coordinator.DefaultConfig()
	flags := cmd.Flags()
	flags.StringVarP(&file, "config", "c", "", "settings `file`; see configs/coordinator.yaml for one with comments")
	flags.String("state-dir", d.StateDir, "`folder` of the store, the certificates and the keys")
	flags.String("api.listen", d.API.Listen, "`host:port` of API, web page and registry")
	flags.StringSlice("api.names", nil, "further `names` for the API's certificate")
	flags.String("nats.listen", d.NATS.Listen, "`host:port` for nodes and automation")
	flags.StringSlice("nats.names", nil, "further `names` for the NATS certificate")
	flags.String("network.pod-cidr", d.Network.PodCIDR, "address `range` of pods")
	flags.String("network.service-cidr", d.Network.ServiceCIDR, "address `range` of services")
	flags.Duration("nodes.heartbeat", d.Nodes.Heartbeat, "how often nodes say that they live")
	flags.Bool("nodes.rebalance", d.Nodes.Rebalance, "move load to nodes that return or join")
	flags.String("audit.level", d.Audit.Level, "none, metadata or request")
	flags.String("audit.file", d.Audit.File, "`file` of the audit log; audit/audit.log in the state folder when empty")
	flags.String("log.level", d.Log.Level, "debug, info, warn or error")
	flags.String("log.format", d.Log.Format, "text or json")
	return cmd
}
