package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/boot/cgroup"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// clearTimeout bounds the removal of the control groups of the node's last boot.
	clearTimeout = 10 * time.Second
)

// prepare turns the namespaces that we were started in into a machine of our own.
func prepare(c Config) error {
	run := filepath.Join(c.StateDir, "run")
	if err := mountOwn(run); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", c.Hostname, err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return clearCgroups(c.CgroupParent)
}

// mountOwn hides the host's processes and links. Nothing mounted here is seen outside, and it goes with us.
func mountOwn(run string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	return mountSys(filepath.Join(run, ".cgroup"))
}

// mountSys mounts a sysfs that shows our links, and puts the control groups back into it: they are mounts inside the one
// that it hides.
func mountSys(aside string) error {
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	if err := mount(cgroupRoot, aside, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mount(aside, cgroupRoot, "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(aside)
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

func loopbackUp() error {
	link, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("bring up the loopback link: %w", err)
	}
	return nil
}

// clearCgroups removes the groups of the node's last boot: its processes died with its process namespace, but the groups
// stay, and a container of the same name would start in them.
func clearCgroups(group string) error {
	all, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("no control groups are mounted: mount -t cgroup2 none " + cgroupRoot)
	}
	if err := cgroup.Remove(all, group, clearTimeout); err != nil {
		return err
	}
	return cgroup.Prepare(all, group)
}
