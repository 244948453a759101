package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	config "github.com/opencontainers/cgroups/devices/config"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// standardDevices are the nodes every container gets, by major and minor number as in the kernel's devices.txt.
var standardDevices = []struct {
	path         string
	major, minor int64
}{
	{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
}

func defaultDevices() []*config.Device {
	var out []*config.Device
	for _, d := range standardDevices {
		out = append(out, &config.Device{
			Rule: config.Rule{Type: config.CharDevice, Major: d.major, Minor: d.minor, Permissions: "rwm", Allow: true},
			Path: d.path, FileMode: 0o666,
		})
	}
	return out
}

// defaultRules allow making any node (which opens nothing), the standard devices, /dev/console, pseudo-terminals and nothing else.
func defaultRules() []*config.Rule {
	allow := func(kind config.Type, major, minor int64, perms config.Permissions) *config.Rule {
		return &config.Rule{Type: kind, Major: major, Minor: minor, Permissions: perms, Allow: true}
	}
	rules := []*config.Rule{
		{Type: config.WildcardDevice, Major: config.Wildcard, Minor: config.Wildcard, Permissions: "rwm", Allow: false},
		allow(config.CharDevice, config.Wildcard, config.Wildcard, "m"),
		allow(config.BlockDevice, config.Wildcard, config.Wildcard, "m"),
		allow(config.CharDevice, 5, 1, "rwm"),
		allow(config.CharDevice, 5, 2, "rwm"),
		allow(config.CharDevice, 136, config.Wildcard, "rwm"),
	}
	for _, d := range standardDevices {
		rules = append(rules, allow(config.CharDevice, d.major, d.minor, "rwm"))
	}
	return rules
}

// devicesOf returns the nodes to make and the rules to set for spec.
func devicesOf(spec *keeper.Spec) ([]*config.Device, []*config.Rule, error) {
	if spec.Privileged {
		return privilegedDevices()
	}
	nodes, rules := defaultDevices(), defaultRules()
	for _, d := range spec.Devices {
		node, err := deviceOf(d)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, &node.Rule)
		if !d.AccessOnly {
			nodes = append(nodes, node)
		}
	}
	return nodes, rules, nil
}

func privilegedDevices() ([]*config.Device, []*config.Rule, error) {
	nodes, err := hostDevices("/dev")
	if err != nil {
		return nil, nil, err
	}
	all := &config.Rule{Type: config.WildcardDevice, Major: config.Wildcard, Minor: config.Wildcard, Permissions: "rwm", Allow: true}
	return nodes, []*config.Rule{all}, nil
}

func deviceOf(d keeper.Device) (*config.Device, error) {
	perms := config.Permissions(d.Permissions)
	if perms == "" {
		perms = "rwm"
	}
	if !perms.IsValid() {
		return nil, fmt.Errorf("device %s: permissions %q: %w", d.HostPath, d.Permissions, keeper.ErrInvalid)
	}
	var st unix.Stat_t
	if err := unix.Stat(d.HostPath, &st); err != nil {
		return nil, fmt.Errorf("device: %w: %w", keeper.ErrInvalid, &os.PathError{Op: "stat", Path: d.HostPath, Err: err})
	}
	node := &config.Device{Path: d.ContainerPath, FileMode: os.FileMode(st.Mode & 0o777), Uid: st.Uid, Gid: st.Gid}
	if node.Path == "" {
		node.Path = d.HostPath
	}
	kind, err := deviceType(st.Mode)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", d.HostPath, err)
	}
	node.Rule = config.Rule{
		Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), Permissions: perms, Allow: true,
	}
	return node, nil
}

func deviceType(mode uint32) (config.Type, error) {
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return config.CharDevice, nil
	case unix.S_IFBLK:
		return config.BlockDevice, nil
	default:
		return 0, fmt.Errorf("not a device: %w", keeper.ErrInvalid)
	}
}

// hostDevices lists the device nodes below dir but for those that every container has of its own: terminals and shared memory. Nodes
// that go away meanwhile, as a USB stick does, are left out.
func hostDevices(dir string) ([]*config.Device, error) {
	own := map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, ".udev": true, ".lxc": true, ".lxd-mounts": true}
	var nodes []*config.Device
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) || path == filepath.Join(dir, "console"):
			return nil
		case err != nil:
			return err
		case e.IsDir() && own[e.Name()]:
			return fs.SkipDir
		case e.Type()&fs.ModeDevice == 0:
			return nil
		}
		if node, err := deviceOf(keeper.Device{HostPath: path}); err == nil {
			nodes = append(nodes, node)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list devices of the node: %w", err)
	}
	return nodes, nil
}
