package fleet

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
)

// rebalancePath is where the coordinator answers what it would move: GET plans, POST starts the first move.
const rebalancePath = "/skerry/v1/rebalance"

// NewRebalanceCommand returns `skerry rebalance`.
func NewRebalanceCommand(connect Connect) *cobra.Command {
	var dryRun bool
	var output string
	cmd := &cobra.Command{
		Use:   "rebalance",
		Short: "Even out load between nodes, or say what would be moved and why",
		Long: `The coordinator rebalances by itself when a node returns or joins: one pod at a time, the replacement ready before the
old pod stops, and only while the gain outweighs the cost. This command asks for it now, without waiting for the
cool-down, or shows the plan.`,
		Example: "  skerry rebalance --dry-run\n  skerry rebalance",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var answer api.Balance
			if dryRun {
				err = c.Get(cmd.Context(), rebalancePath, &answer)
			} else {
				err = c.Post(cmd.Context(), rebalancePath, struct{}{}, &answer)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			return printBalance(cmd.OutOrStdout(), answer)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be moved")
	addOutput(cmd, &output)
	return cmd
}

func printBalance(out io.Writer, b api.Balance) error {
	if len(b.Nodes) > 0 {
		fmt.Fprintf(out, "imbalance %.3f\n\n", b.Imbalance)
		if err := table(out, "NODE\tLOAD\tNOTE", func(w io.Writer) {
			for _, n := range b.Nodes {
				fmt.Fprintf(w, "%s\t%.0f%%\t%s\n", n.Name, 100*n.Load, n.Excluded)
			}
		}); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	if b.Message != "" {
		fmt.Fprintln(out, b.Message)
	}
	if len(b.Moves) == 0 {
		_, err := fmt.Fprintln(out, "nothing to move")
		return err
	}
	return table(out, "POD\tFROM\tTO\tGAIN\tCOST\tWHY", func(w io.Writer) {
		for _, m := range b.Moves {
			fmt.Fprintf(w, "%s/%s\t%s\t%s\t%.3f\t%.3f\t%s\n", m.Pod.Namespace, m.Pod.Name, m.From, m.To, m.Gain, m.Cost, m.Reason)
		}
	})
}
