package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Folder names below the root.
const (
	blobsDir   = "blobs"
	reposDir   = "repos"
	uploadsDir = "uploads"
	tmpDir     = "tmp"

	layersPart    = "_layers"
	manifestsPart = "_manifests"
	tagsPart      = "_tags"
	referrersPart = "_referrers"
)

// disk is durable files below one root. Every path it is given is made of checked names only.
type disk struct {
	root *os.Root
}

func openDisk(root *os.Root) (*disk, error) {
	d := &disk{root: root}
	if err := root.RemoveAll(tmpDir); err != nil {
		return nil, fmt.Errorf("empty %s: %w", tmpDir, err)
	}
	for _, dir := range []string{blobsDir, reposDir, uploadsDir, tmpDir} {
		if err := d.mkdirAll(dir); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func blobPath(d digest.Digest) string {
	hex := d.Encoded()
	return path.Join(blobsDir, d.Algorithm().String(), hex[:2], hex)
}

// linkPath is where repository name says that it holds d, as a layer or as a manifest (part).
func linkPath(name, part string, d digest.Digest) string {
	return path.Join(reposDir, name, part, d.Algorithm().String(), d.Encoded())
}

func tagPath(name, tag string) string { return path.Join(reposDir, name, tagsPart, tag) }

func referrerPath(name string, subject, d digest.Digest) string {
	return path.Join(referrersPath(name, subject), d.Algorithm().String(), d.Encoded())
}

func referrersPath(name string, subject digest.Digest) string {
	return path.Join(reposDir, name, referrersPart, subject.Algorithm().String(), subject.Encoded())
}

// mkdirAll makes dir and its parents, and syncs each parent that got a new entry.
func (d *disk) mkdirAll(dir string) error {
	if _, err := d.root.Stat(dir); err == nil {
		return nil
	}
	if parent := path.Dir(dir); parent != "." {
		if err := d.mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make folder: %w", err)
	}
	return d.syncDir(path.Dir(dir))
}

func (d *disk) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return fmt.Errorf("open folder to sync it: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeFile puts data at name so that a crash leaves the old file or the new one.
func (d *disk) writeFile(name string, data []byte) error {
	tmp := path.Join(tmpDir, newID())
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = io.Copy(f, bytes.NewReader(data))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = d.publish(tmp, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), d.remove(tmp))
	}
	return nil
}

// publish renames a synced file to its place and syncs the folder.
func (d *disk) publish(from, to string) error {
	if err := d.mkdirAll(path.Dir(to)); err != nil {
		return err
	}
	if err := d.root.Rename(from, to); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return d.syncDir(path.Dir(to))
}

// remove deletes a file; one that is not there is fine.
func (d *disk) remove(name string) error {
	if err := d.root.Remove(name); err != nil && !isMissing(err) {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

func (d *disk) exists(name string) (bool, error) {
	_, err := d.root.Stat(name)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// touch makes name look new to the garbage collector. It says false when name is missing.
func (d *disk) touch(name string, now time.Time) (bool, error) {
	err := d.root.Chtimes(name, now, now)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// readDir lists a folder in order of names; a missing folder is empty.
func (d *disk) readDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	sortEntries(entries)
	return entries, nil
}

// digestsIn lists the digests that are stored as <dir>/<algorithm>/<hex>. Other files are skipped.
func (d *disk) digestsIn(dir string) ([]digest.Digest, error) {
	algorithms, err := d.readDir(dir)
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for _, a := range algorithms {
		entries, err := d.readDir(path.Join(dir, a.Name()))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if dg, err := digest.Parse(a.Name() + ":" + e.Name()); err == nil {
				out = append(out, dg)
			}
		}
	}
	return out, nil
}

// freeBytes is what an ordinary user could still write.
func (d *disk) freeBytes() (int64, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &st)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
