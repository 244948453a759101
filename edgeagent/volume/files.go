package volume

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dataLink points at the folder with the present content; every visible name is a link through it, so that all files of
// a volume change at one instant. The layout is the kubelet's (pkg/volume/util/atomic_writer.go), which some programs watch.
const dataLink = "..data"

// files makes a volume of generated files, in memory when secret, and brings its content up to date.
func files(path string, secret bool, group int, from source) error {
	want, err := from()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // containers of any user read it
		return err
	}
	if secret {
		if err := mountTmpfs(path, 0); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // a descriptor of a folder
	if err := writeAll(root, want, group); err != nil {
		return err
	}
	return own(path, group, 0o755)
}

func writeAll(root *os.Root, want map[string]content, group int) error {
	generation := ".." + digest(want)
	old, err := root.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != generation {
		if err := writeGeneration(root, generation, want, group); err != nil {
			return err
		}
		if err := swap(root, generation); err != nil {
			return err
		}
	}
	if err := linkNames(root, want); err != nil {
		return err
	}
	if old != "" && old != generation {
		return root.RemoveAll(old)
	}
	return nil
}

// digest identifies the content.
func digest(want map[string]content) string {
	h := sha256.New()
	for _, name := range sorted(want) {
		c := want[name]
		var size [12]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(c.data)))
		binary.BigEndian.PutUint32(size[8:], uint32(c.mode)) //nolint:gosec // permission bits
		h.Write([]byte(name + "\x00"))
		h.Write(size[:])
		h.Write(c.data)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func writeGeneration(root *os.Root, generation string, want map[string]content, group int) error {
	if err := root.RemoveAll(generation); err != nil {
		return err
	}
	if err := root.MkdirAll(generation, 0o755); err != nil {
		return err
	}
	for _, name := range sorted(want) {
		if err := writeFile(root, generation, name, want[name], group); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func writeFile(root *os.Root, generation, name string, c content, group int) error {
	if name == "" || !filepath.IsLocal(name) || strings.HasPrefix(name, "..") {
		return fmt.Errorf("path %q leaves the volume", name)
	}
	path := filepath.Join(generation, name)
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := root.WriteFile(path, c.data, 0o600); err != nil {
		return err
	}
	mode := os.FileMode(c.mode & 0o777) //nolint:gosec // permission bits
	if group >= 0 {
		if err := root.Chown(path, 0, group); err != nil {
			return err
		}
		mode |= 0o040 // the group that the pod named can read, as in the kubelet
	}
	return root.Chmod(path, mode)
}

// swap points dataLink at the generation in one step.
func swap(root *os.Root, generation string) error {
	const temporary = dataLink + "_tmp"
	if err := root.RemoveAll(temporary); err != nil {
		return err
	}
	if err := root.Symlink(generation, temporary); err != nil {
		return err
	}
	return root.Rename(temporary, dataLink)
}

// linkNames makes the visible names and removes those that are gone.
func linkNames(root *os.Root, want map[string]content) error {
	top := map[string]bool{}
	for name := range want {
		first, _, _ := strings.Cut(filepath.Clean(name), "/")
		top[first] = true
	}
	for name := range top {
		err := root.Symlink(filepath.Join(dataLink, name), name)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	names, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !top[n.Name()] && !strings.HasPrefix(n.Name(), "..") {
			if err := root.Remove(n.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}
