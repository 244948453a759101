package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFolder makes a folder ours until release is called or the process ends: two servers on one store destroy it.
func lockFolder(folder string) (release func(), err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the store folder: %w", err)
	}
	path := filepath.Join(folder, "skerry.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another coordinator is using it")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the store folder %s: %w", folder, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing gives the lock back; nothing was written
}
