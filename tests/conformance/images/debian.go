package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// packages bring the programs that specs call in containers; upstream takes them from Alpine.
var packages = []string{"busybox-static", "bash", "bind9-dnsutils", "curl", "iproute2", "libc-bin", "netcat-openbsd", "nginx-light", "socat", "util-linux"}

// debian unpacks the packages and all that they depend on into a folder, and installs nothing. It returns the root.
func debian(ctx context.Context, cache string) (string, error) {
	root, archives := filepath.Join(cache, "debian"), filepath.Join(cache, "archives")
	stamp := filepath.Join(root, ".packages")
	want := strings.Join(packages, " ")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return root, nil
	}
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	for _, dir := range []string{root, filepath.Join(archives, "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	if err := download(ctx, archives); err != nil {
		return "", err
	}
	if err := unpack(ctx, archives, root); err != nil {
		return "", err
	}
	return root, os.WriteFile(stamp, []byte(want), 0o644)
}

// download asks apt for the packages as for a machine that has none. Its lists may be missing or old: then they are
// fetched first.
func download(ctx context.Context, archives string) error {
	args := append([]string{
		"--yes", "--quiet", "--download-only", "--no-install-recommends",
		"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::archives=" + archives,
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install",
	}, packages...)
	first := run(ctx, "apt-get", args...)
	if first == nil {
		return nil
	}
	if err := run(ctx, "apt-get", "update", "--quiet"); err != nil {
		return errors.Join(first, err)
	}
	return run(ctx, "apt-get", args...)
}

func unpack(ctx context.Context, archives, root string) error {
	files, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := run(ctx, "dpkg-deb", "--extract", file, root); err != nil {
			return err
		}
	}
	return os.RemoveAll(archives)
}

func run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out), nil
}
