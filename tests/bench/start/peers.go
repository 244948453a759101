package start

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

//go:embed config.json
var bundleConfig []byte

// crun runs containers with the default seccomp profile, or without a filter.
func crun(dir, rootfs string, filtered bool) func(context.Context, string) (string, error) {
	bundle := filepath.Join(dir, fmt.Sprint("bundle-", filtered))
	return func(ctx context.Context, id string) (string, error) {
		if err := os.MkdirAll(bundle, 0o755); err != nil {
			return "", err
		}
		config, err := bundleFor(rootfs, filtered)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
			return "", err
		}
		return output(exec.CommandContext(ctx, "crun", "--root", filepath.Join(dir, "crun"), "run", "--bundle", bundle, id))
	}
}

// bundleFor is crun's config, made anew for each start as a node would.
func bundleFor(rootfs string, filtered bool) ([]byte, error) {
	text := bytes.ReplaceAll(bundleConfig, []byte("ROOTFS"), []byte(rootfs))
	if !filtered {
		return text, nil
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	profile, err := seccomp.GetDefaultProfile(&spec)
	if err != nil {
		return nil, err
	}
	spec.Linux.Seccomp = profile
	return json.Marshal(spec)
}

// podman has its own default seccomp profile, much the same.
func podman(rootfs string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		return output(exec.CommandContext(ctx, "podman", "run", "--rm", "--name", id, "--network", "none",
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
