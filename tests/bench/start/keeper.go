package start

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"skerry.dev/skerry/edgeagent/keeper"
)

// ours is a running keeper and a client of it.
type ours struct {
	client *keeper.Client
	dir    string
	pid    int
	fresh  usage // before the first container
	exits  chan keeper.Exit
}

const cgroupParent = "/skerry/bench"

func startKeeper(ctx context.Context, o options) (*ours, func() error, error) {
	socket := filepath.Join(o.dir, "k", "keeper.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(o.keeper, "--state-dir", filepath.Join(o.dir, "keeper"), "--run-dir", filepath.Join(o.dir, "k", "run"), "--socket", socket, "--cgroup-parent", cgroupParent)
	log, err := os.Create(filepath.Join(o.dir, "keeper.log"))
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	k := &ours{dir: o.dir, pid: cmd.Process.Pid, exits: make(chan keeper.Exit, crowd)} // as many as run at once
	following, cancel := context.WithCancel(ctx)
	stop := func() error {
		cancel()
		return errors.Join(k.client.CleanAll(context.WithoutCancel(ctx)), k.client.Close(), cmd.Process.Kill(), ignoreExit(cmd.Wait()), log.Close())
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if k.client, err = keeper.Dial(ctx, socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, nil, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if k.fresh, err = usageOf(k.pid); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	go func() {
		_ = k.client.Exits(following, 0, func(e keeper.Exit) error { k.exits <- e; return nil }) // ends with following
	}()
	return k, stop, nil
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func (k *ours) spec(id, rootfs string) keeper.Spec {
	return keeper.Spec{
		ID: id, Rootfs: rootfs, ReadonlyRootfs: true, Args: []string{"/stamp"}, Env: []string{"PATH=/"}, NoNewPrivs: true,
		LogPath: filepath.Join(k.dir, id+".log"), CgroupPath: cgroupParent + "/" + id,
		Resources: keeper.Resources{CPUShares: 102, MemoryBytes: 64 << 20, PidsLimit: 64},
	}
}

// life is create, start, exit and delete through the keeper, as the agent does it.
func (k *ours) life(rootfs, seccomp string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		id += seccomp // another log for another kind of container
		spec := k.spec(id, rootfs)
		spec.SeccompProfile = seccomp
		if err := k.client.Create(ctx, spec); err != nil {
			return "", err
		}
		if err := k.client.Start(ctx, id); err != nil {
			return "", err
		}
		for e := range k.exits {
			if e.ID == id {
				break
			}
		}
		if err := k.client.Delete(ctx, id); err != nil {
			return "", err
		}
		data, err := os.ReadFile(spec.LogPath)
		fields := strings.Fields(string(data)) // time, stream, tag, text
		if err == nil && len(fields) != 4 {
			err = fmt.Errorf("log %q", data)
		}
		if err != nil {
			return "", err
		}
		return fields[3], nil
	}
}
