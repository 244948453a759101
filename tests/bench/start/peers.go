package start

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed config.json
var bundleConfig []byte

func crun(dir, rootfs string) func(context.Context, string) (string, error) {
	bundle := filepath.Join(dir, "bundle")
	return func(ctx context.Context, id string) (string, error) {
		if err := os.MkdirAll(bundle, 0o755); err != nil {
			return "", err
		}
		config := bytes.ReplaceAll(bundleConfig, []byte("ROOTFS"), []byte(rootfs))
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
			return "", err
		}
		return output(exec.CommandContext(ctx, "crun", "--root", filepath.Join(dir, "crun"), "run", "--bundle", bundle, id))
	}
}

func podman(rootfs string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		return output(exec.CommandContext(ctx, "podman", "run", "--rm", "--name", id, "--network", "none", "--security-opt", "seccomp=unconfined",
			"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--memory", "64m", "--pids-limit", "64", "--cgroup-manager", "cgroupfs", "--log-driver", "none", "--rootfs", rootfs, "/stamp"))
	}
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, stderr.String())
	}
	return string(out), nil
}
