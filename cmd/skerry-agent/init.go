package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"skerry.dev/skerry/edgeagent/boot"
)

// runInit is process 1 of a node that is not a whole machine.
func runInit(ctx context.Context, args []string, out io.Writer) error {
	flags := flagSet("init", "be the first process of a node that is not a whole machine", out)
	keeper := flags.String("keeper", "", "`file` of skerry-keeper (default: beside this one)")
	c, file, err := settings(flags, args)
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if *keeper == "" {
		*keeper = filepath.Join(filepath.Dir(self), "skerry-keeper")
	}
	log, err := c.Log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	agent := []string{"run"}
	if file != "" {
		agent = append(agent, "--config", file)
	}
	return boot.Run(ctx, boot.NewConfig(c.StateDir, c.Name, c.CgroupParent, *keeper, self, agent, log))
}
