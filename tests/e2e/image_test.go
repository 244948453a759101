package e2e

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"strings"

	"skerry.dev/skerry/tests/cluster"
)

// The same image under two tags; they differ in their environment: VERSION.
const (
	imageV1 = "registry.skerry/testimage:1"
	imageV2 = "registry.skerry/testimage:2"
)

// makeImage builds the test program and pushes the images.
func makeImage(ctx context.Context, c *cluster.Cluster, dir string) error {
	binary := filepath.Join(dir, "testimage")
	build := []string{"CGO_ENABLED=0", "go", "-C", c.Root, "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./tests/e2e/testimage"}
	if _, err := c.Run(ctx, "", "env", build...); err != nil {
		return err
	}
	return pushWithCrane(ctx, c, binary, dir)
}

func pushWithCrane(ctx context.Context, c *cluster.Cluster, binary, dir string) error {
	tarball := filepath.Join(dir, "layer.tar")
	if err := tarOf(binary, tarball); err != nil {
		return err
	}
	r, err := newRegistry(c, dir)
	if err != nil {
		return err
	}
	for _, ref := range []string{imageV1, imageV2} {
		target := strings.Replace(ref, "registry.skerry", r.host, 1)
		if _, err := r.crane(ctx, "append", "--new_layer", tarball, "-t", target, "--oci-empty-base"); err != nil {
			return err
		}
		version := ref[len(ref)-1:]
		if _, err := r.crane(ctx, "mutate", target, "-t", target, "--entrypoint", "/testimage", "--cmd", "serve", "--env", "VERSION="+version); err != nil {
			return err
		}
	}
	return nil
}

func tarOf(binary, path string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "testimage", Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}
