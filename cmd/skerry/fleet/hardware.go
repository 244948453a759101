package fleet

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
)

// NewHardwareCommand returns `skerry hardware`.
func NewHardwareCommand(connect Connect) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "hardware [NODE]",
		Aliases: []string{"hw"},
		Short:   "Show what the nodes' agents found when they probed their machines",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var list api.NodeInventoryList
			if len(args) == 1 {
				list.Items = make([]api.NodeInventory, 1)
				err = c.Get(cmd.Context(), fleetPath+"/nodeinventories/"+args[0], &list.Items[0])
			} else {
				err = c.Get(cmd.Context(), fleetPath+"/nodeinventories", &list)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), list.Items)
			}
			return table(cmd.OutOrStdout(), "NODE\tBOARD\tCPU\tTHREADS\tMEMORY\tDISKS\tLINKS\tDEVICES\tKERNEL", func(w io.Writer) {
				for _, n := range list.Items {
					fmt.Fprintln(w, inventoryRow(n))
				}
			})
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func inventoryRow(n api.NodeInventory) string {
	i := n.Inventory
	physical := 0
	for _, l := range i.Links {
		if l.Physical {
			physical++
		}
	}
	return strings.Join([]string{
		n.Name, orNone(strings.TrimSpace(i.System.Vendor + " " + i.System.Product)), orNone(i.CPU.Model),
		fmt.Sprint(i.CPU.Threads), fmt.Sprintf("%.1fGi", float64(i.Memory.TotalBytes)/(1<<30)),
		fmt.Sprint(len(i.Disks)), fmt.Sprintf("%d (%d physical)", len(i.Links), physical),
		fmt.Sprint(len(i.Devices) + len(i.PCI) + len(i.USB)), i.Kernel.Version,
	}, "\t")
}

func orNone(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}
