package footprint

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// idler is a program that waits to be stopped, and that an exec probe can run too: small and quick, so that what is
// measured is Skerry.
const idler = `#include <signal.h>
#include <string.h>
#include <unistd.h>

static void leave(int number) { _exit(0); }

int main(int count, char **arguments) {
	if (count > 1 && !strcmp(arguments[1], "check")) return 0; /* an exec probe */
	signal(SIGTERM, leave); /* the first process of a container has no default handler */
	for (;;) pause();
}
`

const image = "registry.skerry/idler:1"

// image builds the image and pushes it.
func (b *bench) image(ctx context.Context) error {
	dir := filepath.Join(b.cluster.DataDir, "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	source, binary := filepath.Join(dir, "idler.c"), filepath.Join(dir, "idler")
	if err := os.WriteFile(source, []byte(idler), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", binary, source).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", binary, err, out)
	}
	store := filepath.Join(dir, "images")
	if _, err := b.cluster.Skerry(ctx, "image", "build", binary, "-t", image, "--store", store); err != nil {
		return err
	}
	_, err := b.cluster.Skerry(ctx, "image", "push", image, "--store", store)
	return err
}
