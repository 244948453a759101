package up

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// DefaultDataDir is where `skerry up` keeps its cluster unless told otherwise.
const DefaultDataDir = "/var/lib/skerry/up"

// NewCommand returns `skerry up`.
func NewCommand() *cobra.Command {
	o := Options{}
	var subnet string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a whole cluster on this machine until Ctrl-C",
		Long: `Runs a coordinator and N nodes on this machine, in the foreground. Each node is an agent and a keeper in pid, mount,
network, UTS and IPC namespaces of its own, with its own state folder, address and link: it behaves like a machine, and
` + "`skerry local`" + ` can cut its power or its link.

Needs root. Everything but the data folder is removed at the end; the same folder brings the same cluster back.`,
		Example: "  skerry up --nodes 3\n  skerry up --nodes 5 --data-dir /tmp/try --fresh",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if subnet != "" {
				if o.Subnet, err = netip.ParsePrefix(subnet); err != nil {
					return fmt.Errorf("--subnet: %w", err)
				}
			}
			if o.BinDir == "" {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				o.BinDir = filepath.Dir(self)
			}
			if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
				return err
			}
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			o.Out = cmd.OutOrStdout()
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			u, err := New(o)
			if err != nil {
				return err
			}
			return u.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Nodes, "nodes", 1, "how many nodes")
	flags.StringVar(&o.DataDir, "data-dir", DefaultDataDir, "`folder` of the cluster's state")
	flags.BoolVar(&o.Fresh, "fresh", false, "forget the folder's former cluster first")
	flags.StringVar(&o.API, "api", "127.0.0.1:6443", "`host:port` of API, web page and registry; port 0 takes a free one")
	flags.StringVar(&subnet, "subnet", "", "the nodes' network, an IPv4 /24; default is a free one of 10.41.0.0/16")
	flags.DurationVar(&o.Heartbeat, "heartbeat", time.Second, "how often nodes say that they live; silent for three they are unreachable")
	flags.StringVar(&o.BinDir, "bin-dir", "", "`folder` of the other binaries; default is this program's")
	flags.BoolVar(&verbose, "verbose", false, "say more")
	return cmd
}

// NewLocalCommand returns `skerry local`.
func NewLocalCommand() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Cut power and links of the nodes of a running `skerry up`",
		Long: `Plays the weather to a local cluster. A stopped node has lost its power: every process on it died at once and its disk
stays as it was. A cut node has lost its link: its work goes on.`,
		Example: "  skerry local status\n  skerry local cut n2; sleep 60; skerry local heal n2\n  skerry local stop n3; skerry local start n3",
	}
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", DefaultDataDir, "the data `folder` of `skerry up`")
	for _, v := range []struct{ verb, short string }{
		{VerbStop, "Cut a node's power"},
		{VerbStart, "Give a node its power back"},
		{VerbCut, "Take a node's link down"},
		{VerbHeal, "Take a node's link up"},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: v.verb + " NODE", Short: v.short, Args: cobra.ExactArgs(1), ValidArgsFunction: completeNodes(&dataDir),
			RunE: func(cmd *cobra.Command, args []string) error {
				return NewControl(dataDir).Node(cmd.Context(), args[0], v.verb)
			},
		})
	}
	cmd.AddCommand(newStatusCommand(&dataDir))
	return cmd
}

func completeNodes(dataDir *string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		s, err := NewControl(*dataDir).State(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, n := range s.Nodes {
			if strings.HasPrefix(n.Name, prefix) {
				names = append(names, n.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func newStatusCommand(dataDir *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Say where the cluster is and which nodes are on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := NewControl(*dataDir).State(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`format`: table or json")
	return cmd
}

func (s State) print(out io.Writer) error {
	fmt.Fprintf(out, "API         %s\nkubeconfig  %s\nNATS        %s\n\n", s.API, s.Kubeconfig, s.NATS)
	w := tabwriter.NewWriter(out, 0, 4, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tPOWER\tLINK\tINIT\tKEEPER\tAGENT")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", n.Name, n.Address, onOff(n.Running), upDown(n.Linked), n.InitPID, n.KeeperPID, n.AgentPID)
	}
	return w.Flush()
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
