package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoLog means that the container has no log on this node (yet).
var ErrNoLog = errors.New("no log")

// Folder is where the logs of a node are.
type Folder struct{ dir string }

// NewFolder names the folder; it need not exist yet.
func NewFolder(dir string) *Folder { return &Folder{dir: dir} }

// Path is the file that an instance logs to. Names must have come from a pod that was validated.
func (f *Folder) Path(uid, container string, attempt int32) string {
	return filepath.Join(f.dir, uid, container, strconv.Itoa(int(attempt))+suffix)
}

// Container is the folder of a container's logs. It need not exist.
func (f *Folder) Container(uid, container string) string { return filepath.Join(f.dir, uid, container) }

// Pods lists the UIDs that have logs.
func (f *Folder) Pods() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, err
}

const suffix = ".log"

// Prepare makes the folder for a container's logs and removes those of instances before the last one, which nobody can
// ask for any more.
func (f *Folder) Prepare(uid, container string, attempt int32) error {
	if err := errors.Join(checkName("pod uid", uid), checkName("container", container)); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("open log folder: %w", err)
	}
	defer func() { _ = root.Close() }() // a descriptor of a folder
	dir := filepath.Join(uid, container)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	names, err := list(root, dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if a, ok := attemptOf(n); ok && a < int(attempt)-1 {
			errs = append(errs, root.Remove(filepath.Join(dir, n)))
		}
	}
	return errors.Join(errs...)
}

// Remove removes all logs of a pod. None is no error.
func (f *Folder) Remove(uid string) error {
	if err := checkName("pod uid", uid); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log folder: %w", err)
	}
	defer func() { _ = root.Close() }() // a descriptor of a folder
	if err := root.RemoveAll(uid); err != nil {
		return fmt.Errorf("remove logs of pod %s: %w", uid, err)
	}
	return nil
}

func list(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open logs: %w", err)
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// attemptOf reads the restart count from a file's name, rotated or not.
func attemptOf(name string) (int, bool) {
	number, _, ok := strings.Cut(name, suffix)
	n, err := strconv.Atoi(number)
	return n, ok && err == nil && n >= 0
}

// instance returns the restart count of the wanted log.
func instance(names []string, previous bool) (int, bool) {
	var attempts []int
	for _, n := range names {
		if a, ok := attemptOf(n); ok {
			attempts = append(attempts, a)
		}
	}
	slices.Sort(attempts)
	attempts = slices.Compact(attempts)
	if previous && len(attempts) > 0 {
		attempts = attempts[:len(attempts)-1]
	}
	if len(attempts) == 0 {
		return 0, false
	}
	return attempts[len(attempts)-1], true
}

// parts returns the files of an instance, oldest first; the current one, without a number behind, is last.
func parts(names []string, attempt int) []string {
	current := strconv.Itoa(attempt) + suffix
	age := func(name string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(name, current+"."))
		if err != nil {
			return 0
		}
		return n
	}
	var out []string
	for _, n := range names {
		if n == current || (strings.HasPrefix(n, current+".") && age(n) > 0) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return age(b) - age(a) })
	return out
}
