package boot

import (
	"errors"
	"fmt"
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
	Log   *slog.Logger `json:"-"`
}

// Program is something to start. Its output goes where ours goes.
type Program struct {
	Path string
	Args []string // without the program's name
	Env  []string // key=value; nil takes ours
}

// defaultGrace is less than the 30 s that a pod may have by its spec: the node is going away anyway.
const defaultGrace = 10 * time.Second

// NewConfig returns the configuration of a node whose agent has these settings. keeper and agent are the files of the
// programs, agentArgs what the agent is started with; the keeper is told all that it must share with the agent.
func NewConfig(stateDir, name, cgroupParent, keeper, agent string, agentArgs []string, log *slog.Logger) Config {
	c := Config{
		StateDir: stateDir, Hostname: name, CgroupParent: cgroupParent, Grace: defaultGrace, Log: log,
		Keeper: Program{Path: keeper}, Agent: Program{Path: agent, Args: agentArgs},
	}
	c.Keeper.Args = keeperArgs(c)
	return c
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
	if c.Log == nil {
		faults = append(faults, errors.New("no logger"))
	}
	return errors.Join(faults...)
}
