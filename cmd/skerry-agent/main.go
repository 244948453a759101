// Command skerry-agent runs a node of a Skerry cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/configs"
	"skerry.dev/skerry/edgeagent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-agent:", err)
		stop()
		os.Exit(1)
	}
}

const usage = `skerry-agent runs a node of a Skerry cluster.

  skerry-agent run     run the node's agent; needs root and a running skerry-keeper
  skerry-agent init    be the first process of a node that is not a whole machine: keeper and agent, restarted when they die
  skerry-agent probe   print what hardware this machine has
  skerry-agent version

Each command explains itself with --help.
`

// run is the command line without a process around it. A library for commands would add half a megabyte for four of them.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(out, usage)
		return errors.New("no command given")
	}
	var err error
	switch name, rest := args[0], args[1:]; name {
	case "run":
		err = runAgent(ctx, rest, out)
	case "init":
		err = runInit(ctx, rest, out)
	case "probe":
		err = runProbe(rest, out)
	case "version", "--version":
		_, err = fmt.Fprintln(out, api.BuildVersion)
	case "help", "--help", "-h":
		_, err = fmt.Fprint(out, usage)
	default:
		err = fmt.Errorf("unknown command %q; known are run, init, probe, version", name)
	}
	if errors.Is(err, pflag.ErrHelp) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// flagSet makes the flags of a command, with its help.
func flagSet(name, about string, out io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprintf(out, "skerry-agent %s: %s\n\n%s", name, about, flags.FlagUsages()) }
	return flags
}

// settings parses the flags that all commands with settings have, and loads those.
func settings(flags *pflag.FlagSet, args []string) (edgeagent.Config, string, error) {
	c := edgeagent.DefaultConfig()
	file := flags.StringP("config", "c", "", "settings `file`; see configs/agent.yaml for one with comments")
	flags.String("name", "", "the node's `name` (default: the host's)")
	flags.String("state-dir", c.StateDir, "`folder` for all that the node must not forget")
	flags.StringSlice("servers", nil, "the coordinator's NATS `addresses`, nats://host:port")
	flags.String("join-token-file", "", "`file` with the join token")
	flags.String("address", "", "IPv4 `address` where other nodes reach this one (default: the one used towards the server)")
	flags.String("keeper-socket", "", "`socket` of the keeper (default: run/keeper.sock in the state folder)")
	flags.String("cgroup-parent", c.CgroupParent, "control `group` below which all containers are")
	flags.String("log.level", c.Log.Level, "debug, info, warn or error")
	flags.String("log.format", c.Log.Format, "text or json")
	if err := flags.Parse(args); err != nil {
		return c, "", err
	}
	if flags.NArg() > 0 {
		return c, "", fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err := configs.Load(&c, *file, flags); err != nil {
		return c, *file, err
	}
	return c, *file, c.Complete()
}
