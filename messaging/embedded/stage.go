package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// An atomic batch is staged by the server in a folder of the stream, file by file, each synced, before its messages go into
// the stream and are synced there. For who sends batches only to have many messages synced together, and would send them
// one by one as well, the stage need not outlive a power cut: it may be memory. So the folder is made a link to one in a
// memory file system. If a server's other version looks elsewhere for its stage, batches are slower and nothing else.

// tmpfs is how Linux names its memory file system.
const tmpfs = 0x01021994

// stagePrefix starts the names of the folders in memory.
const stagePrefix = "skerry-stage-"

// Stage has the batches of one of the coordinator's streams, which must exist, staged in memory until the server ends. It
// gives an error where there is no memory file system: then nothing has changed.
func (s *Server) Stage(stream string) error {
	home, err := memoryFolder()
	if err != nil {
		return err
	}
	link := stageLink(s.folder, stream)
	if _, err := os.Stat(filepath.Dir(link)); err != nil {
		return fmt.Errorf("stage batches of stream %s: %w", stream, err)
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stage batches of stream %s: %w", stream, err) // a batch is on its way
	}
	folder, err := os.MkdirTemp(home, stagePrefix)
	if err != nil {
		return fmt.Errorf("stage batches of stream %s: %w", stream, err)
	}
	if err := os.Symlink(folder, link); err != nil {
		return errors.Join(fmt.Errorf("stage batches of stream %s: %w", stream, err), os.Remove(folder))
	}
	return nil
}

// stageLink is where the server stages the batches of a stream.
func stageLink(folder, stream string) string {
	return filepath.Join(folder, "jetstream", coreAccount, "streams", stream, "batches")
}

// stages are the folders in memory that a server on this store has, or had when it was killed.
func stages(folder string) []string {
	links, err := filepath.Glob(stageLink(folder, "*"))
	if err != nil {
		return nil // only for a bad pattern, and then none was made
	}
	var out []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(target), stagePrefix) {
			out = append(out, target)
		}
	}
	return out
}

// unstage removes folders in memory. What cannot be removed is gone with the next start of the machine.
func unstage(folders []string) {
	for _, f := range folders {
		_ = os.RemoveAll(f)
	}
}

// memoryFolder is a folder in memory: what systemd gave the service, or everybody's.
func memoryFolder() (string, error) {
	for _, folder := range []string{os.Getenv("RUNTIME_DIRECTORY"), "/dev/shm"} {
		var at unix.Statfs_t
		if folder != "" && unix.Statfs(folder, &at) == nil && int64(at.Type) == tmpfs {
			return folder, nil
		}
	}
	return "", errors.New("no memory file system: /dev/shm is none")
}
