package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/boot/cgroup"
)

// drain is how long the dying processes of a control group may take to leave it.
const drain = 10 * time.Second

// Clean removes what a cluster of this data folder has on the host, and kills what still runs in its control groups. Its
// namespaces and their mounts went with its processes. It is safe to repeat, and does nothing when there is nothing.
// Nobody may be running the cluster.
func Clean(dataDir string) error {
	mark := Mark(dataDir)
	return errors.Join(cleanLink(hostLink(mark)), cleanCgroups(mark), closeWorld(mark))
}

// cleanLink removes the host's link in case that something still holds the switch.
func cleanLink(name string) error {
	link, err := netlink.LinkByName(name)
	if _, notFound := errors.AsType[netlink.LinkNotFoundError](err); notFound {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

func cleanCgroups(mark string) error {
	all, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	if err := cgroup.Remove(all, cgroupOf(mark), drain); err != nil {
		return err
	}
	var errs []error
	for _, h := range all { // the common parent goes with the last cluster; while there are others it is not empty
		err := os.Remove(filepath.Join(h.Path, cgroupTop))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
