package kubectl

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/kubectl/pkg/util/templates"
)

// headings are those of kubectl's own help, and the commands below them. What is not here comes under "Other Commands".
var headings = []struct{ heading, commands string }{
	{"Basic Commands:", "create expose run set explain get edit delete"},
	{"Deploy Commands:", "rollout scale autoscale"},
	{"Cluster Management Commands:", "certificate cluster-info top cordon uncordon drain taint"},
	{"Troubleshooting and Debugging Commands:", "describe logs attach exec port-forward proxy cp auth debug events"},
	{"Advanced Commands:", "diff apply patch replace wait kustomize"},
	{"Settings Commands:", "label annotate completion"},
}

func kubectlGroups(commands []*cobra.Command) []templates.CommandGroup {
	byName := map[string]*cobra.Command{}
	for _, c := range commands {
		byName[c.Name()] = c
	}
	var groups []templates.CommandGroup
	for _, h := range headings {
		group := templates.CommandGroup{Message: h.heading}
		for name := range strings.FieldsSeq(h.commands) {
			if c := byName[name]; c != nil {
				group.Commands = append(group.Commands, c)
			}
		}
		groups = append(groups, group)
	}
	return groups
}

// rename gives the texts of a command's help our name. "kubectl" stays where it is part of something else, such as the
// annotation kubectl.kubernetes.io/restartedAt.
func rename(c *cobra.Command, name string) {
	words := strings.NewReplacer("kubectl ", name+" ", "'kubectl'", "'"+name+"'")
	for _, text := range []*string{&c.Short, &c.Long, &c.Example} {
		*text = words.Replace(*text)
	}
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = words.Replace(f.Usage) })
	for _, below := range c.Commands() {
		below.Short = words.Replace(below.Short)
	}
}

// unquoteFlags takes the quotes away that cobra reads a value's name from; kubectl's help would show them.
func unquoteFlags(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
}
