package volume

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/edgeagent/resolve"
)

// Volumes makes and removes the volumes of a node's pods. Its methods may be called concurrently for different pods.
type Volumes struct {
	dir        string
	persistent string
	resolvConf string     // the node's own
	nameServer netip.Addr // where pods ask for the cluster's names; the zero Addr when there are none
}

// New returns the volumes of pods below dir, and those that outlive pods below persistent; neither need exist yet. Pods ask
// nameServer for names, or without one whom the node asks.
func New(dir, persistent string, nameServer netip.Addr) *Volumes {
	return &Volumes{dir: dir, persistent: persistent, resolvConf: "/etc/resolv.conf", nameServer: nameServer}
}

// Subfolders of a pod's folder.
const (
	volumesFolder     = "volumes"
	subPathsFolder    = "subpaths"
	etcFolder         = "etc"
	terminationFolder = "termination"
	devicesFolder     = "devices"
)

// podFolder is where everything of a pod is. A UID that is no name is refused: it would become part of a path.
func (v *Volumes) podFolder(uid string) (string, error) {
	if faults := validation.IsDNS1123Subdomain(uid); len(faults) > 0 {
		return "", fmt.Errorf("pod uid %.80q: %s", uid, faults[0])
	}
	return filepath.Join(v.dir, uid), nil
}

// Prepare makes all volumes of a pod, and brings the content of those that are there up to date. It may be repeated.
func (v *Volumes) Prepare(refs resolve.Refs) error {
	dir, err := v.podFolder(string(refs.Pod.UID))
	if err != nil {
		return err
	}
	// What is in volumes may be secret, whatever its mode in the container: nobody else on the node comes near.
	if err := errors.Join(os.MkdirAll(v.dir, 0o700), os.Chmod(v.dir, 0o700)); err != nil {
		return fmt.Errorf("make pod folder: %w", err)
	}
	for _, sub := range []string{volumesFolder, subPathsFolder, etcFolder, terminationFolder} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // containers of any user read it
			return fmt.Errorf("make pod folder: %w", err)
		}
	}
	var errs []error
	for i := range refs.Pod.Spec.Volumes {
		vol := &refs.Pod.Spec.Volumes[i]
		if err := v.prepare(refs, vol, filepath.Join(dir, volumesFolder, vol.Name)); err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", vol.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Local are the folders in which a pod takes room on the node's disk, by the name of the volume: its emptyDirs, and under
// names that no volume can have what the agent writes for it.
func (v *Volumes) Local(p *corev1.Pod) (map[string]string, error) {
	dir, err := v.podFolder(string(p.UID))
	if err != nil {
		return nil, err
	}
	out := map[string]string{"/" + etcFolder: filepath.Join(dir, etcFolder), "/" + terminationFolder: filepath.Join(dir, terminationFolder)}
	for i := range p.Spec.Volumes {
		if vol := &p.Spec.Volumes[i]; vol.EmptyDir != nil && vol.EmptyDir.Medium == corev1.StorageMediumDefault {
			out[vol.Name] = filepath.Join(dir, volumesFolder, vol.Name)
		}
	}
	return out, nil
}

// errKind names the sources that this agent does not have.
var errKind = errors.New("this kind of volume is not supported by this node")

func (v *Volumes) prepare(refs resolve.Refs, vol *corev1.Volume, path string) error {
	group := fsGroup(refs.Pod)
	switch {
	case vol.EmptyDir != nil:
		return emptyDir(path, vol.EmptyDir, group)
	case vol.HostPath != nil:
		return hostPath(vol.HostPath)
	case vol.PersistentVolumeClaim != nil:
		return v.claim(refs, vol.PersistentVolumeClaim.ClaimName, path)
	case vol.Ephemeral != nil:
		return v.claim(refs, refs.Pod.Name+"-"+vol.Name, path)
	case vol.ConfigMap != nil:
		return files(path, false, group, configMapFiles(refs, vol.ConfigMap))
	case vol.Secret != nil:
		return files(path, true, group, secretFiles(refs, vol.Secret))
	case vol.DownwardAPI != nil:
		return files(path, false, group, downwardFiles(refs, vol.DownwardAPI.Items, vol.DownwardAPI.DefaultMode))
	case vol.Projected != nil:
		return files(path, true, group, projectedFiles(refs, vol.Projected))
	default:
		return errKind
	}
}

func fsGroup(pod *corev1.Pod) int {
	if c := pod.Spec.SecurityContext; c != nil && c.FSGroup != nil {
		return int(*c.FSGroup)
	}
	return -1
}

// emptyDir makes a folder that all users may write, on disk or in memory. What is in it stays.
func emptyDir(path string, e *corev1.EmptyDirVolumeSource, group int) error {
	if err := os.MkdirAll(path, 0o777); err != nil { //nolint:gosec // shared by containers of any user
		return err
	}
	if e.Medium == corev1.StorageMediumMemory {
		size := int64(0)
		if e.SizeLimit != nil {
			size = e.SizeLimit.Value()
		}
		if err := mountTmpfs(path, size); err != nil {
			return err
		}
	} else if e.Medium != corev1.StorageMediumDefault {
		return fmt.Errorf("emptyDir medium %q: %w", e.Medium, errKind)
	}
	return own(path, group, 0o777)
}

// own sets group and mode whatever the umask. A negative group stays as it is.
func own(path string, group int, mode os.FileMode) error {
	if group >= 0 {
		if err := os.Chown(path, -1, group); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(path, mode)
}

// hostPath checks, or makes, what the pod says is on the node.
func hostPath(h *corev1.HostPathVolumeSource) error {
	if !filepath.IsAbs(h.Path) {
		return fmt.Errorf("hostPath %q is not absolute", h.Path)
	}
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	info, err := os.Stat(h.Path)
	if errors.Is(err, os.ErrNotExist) {
		return makeHostPath(h.Path, kind)
	}
	if err != nil {
		return err
	}
	return checkHostPath(h.Path, kind, info.Mode())
}

func makeHostPath(path string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(path, 0o755) //nolint:gosec // as the kubelet
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // as the kubelet
		if err != nil {
			return err
		}
		return f.Close()
	default:
		return fmt.Errorf("hostPath type check failed: %s does not exist", path)
	}
}

func checkHostPath(path string, kind corev1.HostPathType, mode os.FileMode) error {
	ok := true
	switch kind {
	case corev1.HostPathUnset:
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		ok = mode.IsDir()
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		ok = mode.IsRegular()
	case corev1.HostPathSocket:
		ok = mode&os.ModeSocket != 0
	case corev1.HostPathCharDev:
		ok = mode&os.ModeCharDevice != 0
	case corev1.HostPathBlockDev:
		ok = mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0
	default:
		return fmt.Errorf("hostPath type %q: %w", kind, errKind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, kind)
	}
	return nil
}
