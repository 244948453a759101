package image

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// parentsPath is the folder of an image's mended parents.
func (s *Store) parentsPath(digest string) string { return s.path("images/parents", hexOf(digest)) }

// makeParents mends folders that layers only imply. Overlayfs shows a folder as the topmost layer has it, so a layer
// that brings etc/motd without describing etc would hide owner and mode that a lower layer gave to etc. A small layer
// on top repeats the right ones. Nearly all images need none; it says whether this one does.
func (s *Store) makeParents(digest v1.Hash, layers []v1.Hash, infos []layerInfo) (bool, error) {
	st := &stack{}
	defer st.close()
	for i, id := range layers {
		if err := st.push(filepath.Join(s.layerPath(id), "fs"), infos[i].Implied); err != nil {
			return false, err
		}
	}
	mend := st.mend()
	if len(mend) == 0 {
		return false, nil
	}
	tmp, err := os.MkdirTemp(s.path("images/tmp"), "parents-")
	if err != nil {
		return false, err
	}
	err = writeParents(filepath.Join(tmp, "fs"), mend)
	if err == nil {
		err = syncTree(tmp)
	}
	if err == nil {
		err = errors.Join(os.RemoveAll(s.parentsPath(digest.String())), publish(tmp, s.parentsPath(digest.String())))
	}
	if err != nil {
		return false, errors.Join(err, os.RemoveAll(tmp))
	}
	return true, nil
}

// stack is the layers of an image, lowest first.
type stack struct {
	layers []stacked
}

type stacked struct {
	fd      int
	implied map[string]bool
}

func (s *stack) push(dir string, implied []string) error {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open layer %s: %w", dir, err)
	}
	l := stacked{fd: fd, implied: map[string]bool{}}
	for _, name := range implied {
		l.implied[name] = true
	}
	s.layers = append(s.layers, l)
	return nil
}

func (s *stack) close() {
	for _, l := range s.layers {
		_ = unix.Close(l.fd) // only paths, nothing to lose
	}
}

// parent is a folder to repeat, with what it should be like.
type parent struct {
	name string
	mode uint32
	uid  int
	gid  int
}

// mend lists the folders to repeat, parents first: those whose topmost description is an implied one and whose right
// one is further down, and what leads to them.
func (s *stack) mend() []parent {
	need := map[string]parent{}
	for _, l := range s.layers {
		for name := range l.implied {
			if p, described := s.right(name); described && s.hidden(name) {
				s.add(need, name, p)
			}
		}
	}
	out := make([]parent, 0, len(need))
	for _, p := range need {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b parent) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

// add takes name and its parents, unless one of them is no longer a folder in the image.
func (s *stack) add(need map[string]parent, name string, p parent) {
	chain := map[string]parent{name: p}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		up, _ := s.right(dir)
		if up.name == "" {
			return
		}
		chain[dir] = up
	}
	maps.Copy(need, chain)
}

// hidden says whether the topmost layer that has the folder only implies it.
func (s *stack) hidden(name string) bool {
	for _, l := range slices.Backward(s.layers) {
		if _, err := l.stat(name); err == nil {
			return l.implied[name]
		}
	}
	return false
}

// right finds what a folder should be like: as the topmost layer that describes it says. When none does, or something
// else took its place, described is false; a folder that is implied everywhere still has a name then.
func (s *stack) right(name string) (p parent, described bool) {
	for _, l := range slices.Backward(s.layers) {
		st, err := l.stat(name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return p, false
		}
		p = parent{name: name, mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid)}
		if !l.implied[name] {
			return p, true
		}
	}
	return p, false
}

// stat looks at name in the layer, following no link of it.
func (l stacked) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat2(l.fd, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return st, err
	}
	return st, errors.Join(unix.Fstat(fd, &st), unix.Close(fd))
}

// writeParents makes the layer. Names are those of layers, which hold no links at this point.
func writeParents(dir string, mend []parent) error {
	if err := makeRoot(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	for _, p := range mend {
		err = errors.Join(root.Mkdir(p.name, 0o700), root.Chown(p.name, p.uid, p.gid), chmodExactly(root, p))
		if err != nil {
			break
		}
	}
	return errors.Join(err, root.Close())
}

// chmodExactly sets all twelve bits; os.FileMode has other places for the upper three.
func chmodExactly(root *os.Root, p parent) error {
	f, err := root.Open(p.name)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fchmod(int(f.Fd()), p.mode), f.Close())
}
