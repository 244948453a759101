package boot

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"
)

// Config is what a node is made of.
type Config struct {
	StateDir     string // the node's state folder; its run/ becomes an empty tmpfs
	Hostname     string
	CgroupParent string // absolute, such as /skerry/n1; emptied at the start
	Keeper       Program
	Agent        Program
	// Grace is how long containers may take to end by themselves in an orderly shutdown. 0 kills them at once.
	Grace time.Duration
	Log   *slog.Logger
}

// Program is something to start. Its output goes where ours goes.
type Program struct {
	Path string
	Args []string // without the program's name
	Env  []string // key=value; nil takes ours
}

// defaultGrace is less than the 30 s that a pod may have by its spec: the node is going away anyway.
const defaultGrace = 10 * time.Second

// ParseArgs reads the command line of the agent binary's init subcommand, without its name:
//
//	--state-dir DIR --hostname NAME --cgroup-parent GROUP --keeper FILE [--agent FILE] [--grace 10s] -- AGENT-ARGS...
//
// self is the agent binary that is running. usage receives the help text when it is asked for; the error is then
// flag.ErrHelp.
func ParseArgs(args []string, self string, usage io.Writer) (Config, error) {
	var c Config
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&c.StateDir, "state-dir", "", "the node's state folder")
	flags.StringVar(&c.Hostname, "hostname", "", "the node's host name")
	flags.StringVar(&c.CgroupParent, "cgroup-parent", "", "control group for all containers of the node, emptied at the start")
	flags.StringVar(&c.Keeper.Path, "keeper", "", "file of the keeper")
	flags.StringVar(&c.Agent.Path, "agent", self, "file of the agent")
	flags.DurationVar(&c.Grace, "grace", defaultGrace, "how long containers may take to end when the node shuts down")
	if err := flags.Parse(args); err != nil {
		return Config{}, err
	}
	c.Agent.Args = flags.Args()
	c.Keeper.Args = keeperArgs(c)
	return c, c.validate()
}

// keeperArgs puts the keeper's socket where agents look for it.
func keeperArgs(c Config) []string {
	run := filepath.Join(c.StateDir, "run")
	return []string{
		"--state-dir", filepath.Join(c.StateDir, "keeper"), "--run-dir", filepath.Join(run, "keeper"),
		"--socket", filepath.Join(run, "keeper.sock"), "--cgroup-parent", c.CgroupParent,
	}
}

func (c Config) validate() error {
	var faults []error
	for what, path := range map[string]string{
		"state-dir": c.StateDir, "cgroup-parent": c.CgroupParent, "keeper": c.Keeper.Path, "agent": c.Agent.Path,
	} {
		if !filepath.IsAbs(path) {
			faults = append(faults, fmt.Errorf("%s %q is not an absolute path", what, path))
		}
	}
	if c.Hostname == "" {
		faults = append(faults, errors.New("hostname is empty"))
	}
	return errors.Join(faults...)
}
