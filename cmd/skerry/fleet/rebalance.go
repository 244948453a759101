package fleet

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
)

// rebalancePath is where the coordinator answers what it would move: GET plans, POST starts the first move.
const rebalancePath = "/skerry/v1/rebalance"

// RebalanceAnswer is what the coordinator says of the fleet's balance.
type RebalanceAnswer struct {
	Imbalance float64        `json:"imbalance"` // 0 is even, 1 is all load on one node
	Moves     []api.MovePlan `json:"moves"`
	Message   string         `json:"message,omitempty"` // why there are none, or what holds them back
}

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
			var answer RebalanceAnswer
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
			return answer.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be moved")
	addOutput(cmd, &output)
	return cmd
}

func (a RebalanceAnswer) print(out io.Writer) error {
	fmt.Fprintf(out, "imbalance %.2f\n", a.Imbalance)
	if len(a.Moves) == 0 {
		_, err := fmt.Fprintf(out, "nothing to move: %s\n", a.Message)
		return err
	}
	if a.Message != "" {
		fmt.Fprintln(out, a.Message)
	}
	return table(out, "POD\tFROM\tTO\tGAIN\tCOST\tWHY", func(w io.Writer) {
		for _, m := range a.Moves {
			fmt.Fprintf(w, "%s/%s\t%s\t%s\t%.3f\t%.3f\t%s\n", m.Spec.Pod.Namespace, m.Spec.Pod.Name, m.Spec.From, m.Spec.To, m.Spec.Gain, m.Spec.Cost, m.Spec.Reason)
		}
	})
}
