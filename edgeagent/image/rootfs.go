package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNotPresent means that an image's layers are no longer here: pull it again.
var ErrNotPresent = errors.New("image is not present")

var containerIDRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// mountFile is containers/<id>/rootfs.json. It keeps the layers from being collected, whatever else is said.
type mountFile struct {
	Image  string    `json:"image"` // manifest digest
	Layers []v1.Hash `json:"layers"`
	// FirstID is what root is outside of the container's user namespace, which owns what the container writes; zero without one.
	FirstID uint32 `json:"firstID,omitempty"`
}

// Users is a container's user namespace. The zero value is none.
type Users struct {
	Path    string // of the namespace
	FirstID uint32 // what its root is outside
}

// usersFolder holds the root file systems of containers in user namespaces, below the state folder.
const usersFolder = "run/users"

func (s *Store) rootfsPath(id string, users Users) string {
	if users == (Users{}) {
		return s.path("run/rootfs", id)
	}
	return s.path(usersFolder, id)
}
func (s *Store) containerPath(id, part string) string { return s.path("containers", id, part) }
func checkID(id string) error {
	if !containerIDRE.MatchString(id) {
		return fmt.Errorf("container id %q: want letters, digits, _ . -, at most 128", id)
	}
	return nil
}

// Rootfs mounts the root file system of container id over the image and returns its path: the image's layers below,
// what the container writes above, kept until RemoveRootfs. It may be repeated, also after a crash or a boot in
// between; an id always keeps the image and the IDs that it was first given. Inside users, files have the owners that the image says,
// without a copy of any. The file system is writable: making it read-only for
// the container is its runtime's work, which needs to make mount points first.
func (s *Store) Rootfs(_ context.Context, id string, img Image, users Users) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	defer s.mounts.lock(id)()
	target := s.rootfsPath(id, users)
	mounted, err := isMountPoint(target)
	if err != nil {
		return "", fmt.Errorf("root file system of %s: %w", id, err)
	}
	if mounted {
		return target, nil
	}
	if err := s.mountRootfs(id, img, users, target); err != nil {
		return "", fmt.Errorf("root file system of %s: %w", id, diskError(err))
	}
	return target, nil
}

// Written is the folder of what the container has written to its root file system. It need not exist.
func (s *Store) Written(id string) string { return s.containerPath(id, "upper") }

func (s *Store) mountRootfs(id string, img Image, users Users, target string) error {
	m, err := s.claim(id, img, users.FirstID)
	if err != nil {
		return err
	}
	if m.FirstID != users.FirstID {
		return fmt.Errorf("it belongs to user %d, now it is asked for as user %d's", m.FirstID, users.FirstID)
	}
	lower, err := s.lowerDirs(m)
	if err != nil {
		return err
	}
	upper, work := s.containerPath(id, "upper"), s.containerPath(id, "work")
	for _, dir := range []string{work, target} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// The upper folder's mode is the one of the container's root.
	if err := os.Mkdir(upper, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := copyOwner(lower[0], upper, int(users.FirstID)); err != nil {
		return err
	}
	return mountOverlay(overlay{lower: lower, upper: upper, work: work, target: target, users: users.Path})
}

// claim writes down which layers the container stands on, before anything is mounted from them.
func (s *Store) claim(id string, img Image, firstID uint32) (mountFile, error) {
	var m mountFile
	file := s.containerPath(id, "rootfs.json")
	err := readJSON(file, &m)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return m, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[img.Digest]
	if r == nil {
		return m, fmt.Errorf("%w: %s", ErrNotPresent, img.RepoDigest)
	}
	r.used = time.Now()
	m = mountFile{Image: r.Digest, Layers: r.Layers, FirstID: firstID}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return m, err
	}
	return m, s.writeJSON(file, m)
}

// lowerDirs lists the layers' folders as overlayfs wants them: topmost first.
func (s *Store) lowerDirs(m mountFile) ([]string, error) {
	var out []string
	parents := filepath.Join(s.parentsPath(m.Image), "fs")
	there, err := exists(parents)
	if err != nil {
		return nil, err
	}
	if there {
		out = append(out, parents)
	}
	for _, id := range slices.Backward(m.Layers) {
		dir := filepath.Join(s.layerPath(id), "fs")
		if there, err := exists(dir); err != nil || !there {
			return nil, errors.Join(fmt.Errorf("%w: layer %s is gone", ErrNotPresent, id), err)
		}
		if !slices.Contains(out, dir) { // overlayfs refuses the same folder twice, and it would add nothing
			out = append(out, dir)
		}
	}
	return out, nil
}

// copyOwner gives the upper folder the owner, shifted by first, and the mode that the image gives to its root.
func copyOwner(from, to string, first int) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	uid, gid := owner(info)
	return errors.Join(os.Chown(to, first+uid, first+gid), os.Chmod(to, info.Mode()))
}

// Unmount unmounts the root file system of id and keeps what the container wrote. One that is not mounted is fine.
func (s *Store) Unmount(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	defer s.mounts.lock(id)()
	return s.unmount(id)
}

func (s *Store) unmount(id string) error {
	for _, target := range []string{s.path("run/rootfs", id), s.path(usersFolder, id)} {
		if err := unmountAll(target); err != nil {
			return fmt.Errorf("unmount root file system of %s: %w", id, err)
		}
		// Remove, not RemoveAll: should something still be mounted there, it is not emptied.
		if err := ignoreMissing(os.Remove(target)); err != nil {
			return fmt.Errorf("unmount root file system of %s: %w", id, err)
		}
	}
	return nil
}

// RemoveRootfs unmounts the root file system of id and removes all that the container wrote. One that is not there is
// fine.
func (s *Store) RemoveRootfs(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	defer s.mounts.lock(id)()
	if err := s.unmount(id); err != nil {
		return err
	}
	// rootfs.json goes last: until then List shows the id, and a repeated call finishes the work.
	for _, part := range []string{"work", "upper", "rootfs.json"} {
		if err := os.RemoveAll(s.containerPath(id, part)); err != nil {
			return fmt.Errorf("remove root file system of %s: %w", id, err)
		}
	}
	// The folder itself may hold what others keep for the container.
	if left, err := os.ReadDir(s.path("containers", id)); err == nil && len(left) == 0 {
		return ignoreMissing(os.Remove(s.path("containers", id)))
	}
	return nil
}

// List names the containers that have a root file system here, mounted or not, sorted.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.path("containers"))
	if err != nil {
		return nil, fmt.Errorf("list root file systems: %w", err)
	}
	ids := []string{}
	for _, e := range entries {
		there, err := exists(s.containerPath(e.Name(), "rootfs.json"))
		if err != nil {
			return nil, fmt.Errorf("list root file systems: %w", err)
		}
		if there {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// claimed are the layers below containers, by hex, and the images that they came from, by digest.
func (s *Store) claimed() (layers, images map[string]bool, err error) {
	ids, err := s.List()
	if err != nil {
		return nil, nil, err
	}
	layers, images = map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		var m mountFile
		err := readJSON(s.containerPath(id, "rootfs.json"), &m)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		images[m.Image] = true
		for _, l := range m.Layers {
			layers[l.Hex] = true
		}
	}
	return layers, images, nil
}
