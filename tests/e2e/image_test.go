package e2e

import (
	"context"
	"path/filepath"

	"skerry.dev/skerry/tests/cluster"
)

// The same program in two images, which differ in their environment: VERSION.
const (
	imageV1 = "registry.skerry/testimage:1"
	imageV2 = "registry.skerry/testimage:2"
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
	return nil
}
