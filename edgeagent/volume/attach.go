package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/resolve"
)

// Attachment is one bind mount into a container.
type Attachment struct {
	Source      string
	Destination string
	ReadOnly    bool
	Propagation string // private, rslave or rshared
}

// Attach returns the mounts of a container's volumeMounts, in the order of the spec. env is for subPathExpr.
func (v *Volumes) Attach(pod *corev1.Pod, c *corev1.Container, env []string) ([]Attachment, error) {
	var out []Attachment
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		source, err := v.source(pod, c, i, env)
		if err != nil {
			return nil, fmt.Errorf("volume mount %s at %s: %w", m.Name, m.MountPath, err)
		}
		destination := filepath.Clean("/" + m.MountPath)
		out = append(out, Attachment{Source: source, Destination: destination, ReadOnly: m.ReadOnly || readOnly(pod, m.Name), Propagation: propagation(m)})
	}
	return out, nil
}

func propagation(m *corev1.VolumeMount) string {
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			return "rslave"
		case corev1.MountPropagationBidirectional:
			return "rshared"
		case corev1.MountPropagationNone:
		}
	}
	return "rprivate"
}

// readOnly: generated content is not the container's to change, nor is a claim that the pod wants to read only.
func readOnly(pod *corev1.Pod, name string) bool {
	vol := find(pod, name)
	return vol != nil && (vol.PersistentVolumeClaim != nil && vol.PersistentVolumeClaim.ReadOnly ||
		vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil)
}

func find(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// source is the folder or file on the node behind one volumeMount.
func (v *Volumes) source(pod *corev1.Pod, c *corev1.Container, index int, env []string) (string, error) {
	m := &c.VolumeMounts[index]
	vol := find(pod, m.Name)
	if vol == nil {
		return "", fmt.Errorf("the pod has no volume %q", m.Name)
	}
	dir, err := v.podFolder(string(pod.UID))
	if err != nil {
		return "", err
	}
	base := filepath.Join(dir, volumesFolder, vol.Name)
	switch {
	case vol.HostPath != nil:
		base = vol.HostPath.Path
	case vol.PersistentVolumeClaim != nil || vol.Ephemeral != nil:
		if base, err = os.Readlink(base); err != nil {
			return "", err
		}
	}
	sub, err := subPath(m, env)
	if err != nil || sub == "" {
		return base, err
	}
	target := filepath.Join(dir, subPathsFolder, c.Name+"-"+strconv.Itoa(index))
	return target, pin(base, sub, target)
}

// subPath is the wanted part of the volume; empty for all of it.
func subPath(m *corev1.VolumeMount, env []string) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		var missing []string
		sub = resolve.Expand(m.SubPathExpr, func(name string) (string, bool) {
			for _, line := range env {
				if value, ok := strings.CutPrefix(line, name+"="); ok {
					return value, true
				}
			}
			missing = append(missing, name)
			return "", false
		})
		if len(missing) > 0 {
			return "", fmt.Errorf("subPathExpr %q: no variable %s", m.SubPathExpr, strings.Join(missing, ", "))
		}
	}
	if sub != "" && !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q leaves the volume", sub)
	}
	return sub, nil
}

// pin binds what sub is below base, at this moment and resolved by the kernel, to target. A container that swaps the path
// for a link afterwards, or did before, gets nothing of the node by it.
func pin(base, sub, target string) error {
	fd, err := openBelow(base, sub)
	if err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	defer func() { _ = unix.Close(fd) }() // opened as a path only
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	if err := unmountBelow(target); err != nil {
		return err
	}
	if err := place(target, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind subPath %q: %w", sub, err)
	}
	return nil
}

// openBelow opens sub below base without following it out of there, making folders that are missing.
func openBelow(base, sub string) (int, error) {
	dir, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(dir) }() // opened as a path only
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(dir, sub, how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := makeBelow(base, sub); err != nil {
		return -1, err
	}
	return unix.Openat2(dir, sub, how)
}

// makeBelow makes missing folders with the mode of the volume itself, as the kubelet does: who may write there may write
// here.
func makeBelow(base, sub string) (err error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	path := ""
	for part := range strings.SplitSeq(filepath.Clean(sub), "/") {
		path = filepath.Join(path, part)
		err := root.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = root.Chmod(path, info.Mode()&(fs.ModePerm|fs.ModeSetgid))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place makes an empty mount point of the right kind.
func place(target string, dir bool) error {
	if err := os.RemoveAll(target); err != nil { // nothing is mounted on it
		return err
	}
	if dir {
		return os.MkdirAll(target, 0o750)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
