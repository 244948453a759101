package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"skerry.dev/skerry/tests/cluster"
)

// The same program in two images, which differ in their environment: VERSION.
const (
	imageV1 = "registry.skerry/testimage:1"
	imageV2 = "registry.skerry/testimage:2"
	// imageBox has a shell and its commands, tar among them: kubectl cp needs it.
	imageBox = "registry.skerry/busybox:1"
)

// makeImage builds the test program and its images, and pushes them, with our own command line.
func makeImage(ctx context.Context, c *cluster.Cluster, dir string) error {
	binary, store := filepath.Join(dir, "testimage"), filepath.Join(dir, "images")
	build := []string{"CGO_ENABLED=0", "go", "-C", c.Root, "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./tests/e2e/testimage"}
	if _, err := c.Run(ctx, "", "env", build...); err != nil {
		return err
	}
	for version, name := range map[string]string{"1": imageV1, "2": imageV2} {
		_, err := c.Skerry(ctx, "image", "build", binary, "-t", name, "--cmd", "serve", "--env", "VERSION="+version, "--store", store)
		if err != nil {
			return err
		}
		if _, err := c.Skerry(ctx, "image", "push", name, "--store", store); err != nil {
			return err
		}
	}
	return makeBox(ctx, c, filepath.Join(dir, "busybox"), store)
}

// makeBox makes an image of Debian's busybox.
func makeBox(ctx context.Context, c *cluster.Cluster, root, store string) error {
	bin := filepath.Join(root, "bin")
	if err := errors.Join(os.MkdirAll(bin, 0o755), os.MkdirAll(filepath.Join(root, "tmp"), 0o755)); err != nil {
		return err
	}
	if _, err := c.Run(ctx, "", "cp", "/bin/busybox", bin); err != nil {
		return err
	}
	commands, err := c.Run(ctx, "", filepath.Join(bin, "busybox"), "--list")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(commands) {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil && name != "busybox" {
			return err
		}
	}
	if _, err := c.Skerry(ctx, "image", "build", root, "-t", imageBox, "--cmd", "/bin/sh", "--store", store); err != nil {
		return err
	}
	_, err = c.Skerry(ctx, "image", "push", imageBox, "--store", store)
	return err
}
