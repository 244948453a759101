// Command conformance runs upstream Kubernetes' conformance suite against Skerry.
//
// The suite itself and the programs in its images are built by the Makefile from the module in suite/, which pins
// upstream apart from the product. Which specs are meant to pass is in catalog/, the images are in images/.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

//go:generate go run . page ../../docs/conformance.md

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Run upstream Kubernetes' conformance suite against Skerry",
		Long: `Starts a cluster of real nodes on this machine (or takes the one of --kubeconfig), builds the images that the specs run
and sends them to its registry, and runs the specs that --focus finds, several at a time.

Specs that wait for a feature or test what Skerry leaves out are not run; docs/conformance.md lists them with their
reasons. A spec that has passed with the same binaries is not run again: a run that was interrupted goes on where it was.

At the end report.md and report.json in the --out folder say what passed, what failed and what was skipped, and why;
the suite's own output is beside them. The exit status is 1 when a spec failed or was not reached.

Ctrl-C lets the suite delete what it made, writes the report of what ran, and stops the cluster. Needs root, and what
"make conformance" builds first.`,
		Example: `  make conformance                                   # all that is meant to pass; hours
  make conformance FOCUS='\[sig-apps\] Deployment' PROCS=4
  go run ./tests/conformance --focus sig-cli --list    # what would be run
  go run ./tests/conformance --focus 'Job should delete a job' --again
  go run ./tests/conformance --focus sig-cli --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.stdout = cmd.OutOrStdout()
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.focus, "focus", "", "run specs whose names this `regular expression` finds")
	flags.IntVar(&o.procs, "procs", 8, "how many specs at a time; most of them wait most of the time")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` of a running Skerry cluster to use; default is a new one of --nodes")
	flags.IntVar(&o.nodes, "nodes", 3, "nodes of the new cluster")
	flags.BoolVar(&o.again, "again", false, "run specs again that have passed with these binaries")
	flags.BoolVar(&o.anyBuild, "any-build", false, "do not run specs that have passed with other binaries either")
	flags.BoolVar(&o.exceptions, "exceptions", false, "run specs as well that are not meant to pass")
	flags.BoolVar(&o.list, "list", false, "print the specs that would be run, and run nothing")
	flags.StringVar(&o.out, "out", "tests/artifacts/conformance", "`folder` for reports and logs")
	flags.DurationVar(&o.timeLimit, "timeout", defaultTimeLimit, "limit for the specs of one area")
	flags.StringArrayVar(&o.suiteArgs, "suite-arg", nil, "further `flag` of upstream's e2e.test, such as --delete-namespace-on-failure=false; repeat for more")
	cmd.AddCommand(newPageCommand(), newRecordCommand())
	return cmd
}
