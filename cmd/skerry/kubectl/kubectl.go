// Package kubectl is the part of the command line that people know from Kubernetes: kubectl's own commands, as their
// authors publish them, under our name and beside our verbs. It makes the root command, so that every flag that says
// which cluster and who asks is kubectl's, for our verbs too. It knows none of those verbs, and changes nothing of what
// kubectl's commands do but their names, the order of the help, and plugins, which are off.
package kubectl

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/templates"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in that a kubeconfig may name
)

// Discovery asks for every group's resources at once, as kubectl does.
const (
	discoveryBurst = 300
	discoveryQPS   = 50
)

// Verbs are commands of ours, under a heading of the help.
type Verbs = templates.CommandGroup

// Root is the root command, and the kubeconfig that its flags say.
type Root struct {
	*cobra.Command
	flags *genericclioptions.ConfigFlags
}

// New returns the command `name` with kubectl's commands below it. args are the program's, its own name first: the
// person's kuberc may add to them.
func New(name, version string, args []string, streams genericiooptions.IOStreams) *Root {
	// Without these prefixes kubectl's completion finds no plugins. What kubectl-x programs print names kubectl, and the
	// programs beside ours, such as skerry-agent, are no plugins.
	plugin.ValidPluginFilenamePrefixes = nil
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(discoveryBurst).WithDiscoveryQPS(discoveryQPS).WithWarningPrinter(streams)
	root := cmd.NewKubectlCommand(cmd.KubectlOptions{Arguments: args, ConfigFlags: flags, IOStreams: streams})
	root.Use, root.Version = name, version
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	for _, c := range root.Commands() {
		switch c.Name() {
		case "plugin", "completion": // completion's words are kubectl's; cobra adds its own
			root.RemoveCommand(c)
		case "version":
			sayOwnVersion(c, version, streams)
		}
	}
	return &Root{Command: root, flags: flags}
}

// Kubeconfig is what the flags, the environment and the files say, for our verbs. Ask it once a command runs.
func (r *Root) Kubeconfig() clientcmd.ClientConfig { return r.flags.ToRawKubeConfigLoader() }

// Add puts our verbs beside kubectl's commands, and first in the help.
func (r *Root) Add(verbs ...Verbs) {
	theirs := r.Commands()
	help := r.groupedHelp(verbs)
	for _, c := range theirs {
		c.SetHelpFunc(func(c *cobra.Command, args []string) {
			rename(c, r.Name())
			help(c, args)
		})
	}
	r.SetHelpFunc(func(c *cobra.Command, args []string) {
		unquoteFlags(c)
		help(c, args)
	})
}

// groupedHelp adds the verbs and returns what prints the help of any command. kubectl's own "options" keeps its own help.
func (r *Root) groupedHelp(verbs []Verbs) func(*cobra.Command, []string) {
	r.InitDefaultCompletionCmd()
	groups := append(templates.CommandGroups(verbs), kubectlGroups(r.Commands())...)
	templates.CommandGroups(verbs).Add(r.Command)
	templates.ActsAsRootCommand(r.Command, []string{"options", "alpha"}, groups...)
	return r.HelpFunc()
}

// Run runs the command that args name. Errors are printed as kubectl prints them; a command that fails ends the program
// with kubectl's exit code, which for exec is the remote command's.
func (r *Root) Run(args []string) {
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(args)) // a level that is no number is refused with the other flags
	if err := cli.RunNoErrOutput(r.Command); err != nil {
		cmdutil.CheckErr(err)
	}
}

// sayOwnVersion puts our version before kubectl's, where people read it.
func sayOwnVersion(c *cobra.Command, version string, streams genericiooptions.IOStreams) {
	run := c.Run
	c.Run = func(c *cobra.Command, args []string) {
		if output := c.Flags().Lookup("output"); output != nil && output.Value.String() == "" {
			fmt.Fprintln(streams.Out, "Skerry Version:", version)
		}
		run(c, args)
	}
}
