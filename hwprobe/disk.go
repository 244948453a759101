package hwprobe

import (
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/api"
)

const (
	sectorBytes = 512 // of /sys/block/*/size, whatever the disk's own sectors are
	maxSectors  = math.MaxInt64 / sectorBytes
)

func (t tree) disks() []api.Disk {
	var out []api.Disk
	for _, name := range t.names("sys/block") {
		dir := "sys/block/" + name + "/"
		size := t.number(dir + "size")
		if size > maxSectors {
			size = 0
		}
		if virtualDisk(name) || t.text(dir+"hidden") == "1" || size == 0 && t.text(dir+"removable") != "1" {
			continue
		}
		out = append(out, api.Disk{
			Name: name, SizeBytes: size * sectorBytes,
			Rotational: t.text(dir+"queue/rotational") == "1", Removable: t.text(dir+"removable") == "1", ReadOnly: t.text(dir+"ro") == "1",
			Model: firstText(t, dir+"device/model", dir+"device/name"), Serial: firstText(t, dir+"device/serial", dir+"serial"),
			Bus: t.diskBus(name), WWID: firstText(t, dir+"wwid", dir+"device/wwid"),
		})
	}
	return out
}

func virtualDisk(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	// eMMC boot and replay-protected partitions show as disks of their own.
	return strings.Contains(name, "boot") || strings.HasSuffix(name, "rpmb")
}

func firstText(t tree, names ...string) string {
	for _, n := range names {
		if v := t.text(n); v != "" {
			return v
		}
	}
	return ""
}

// diskBus reads how the disk is attached off its place in the device tree.
func (t tree) diskBus(name string) string {
	place := t.link("sys/block/" + name)
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "mmcblk"):
		return "mmc"
	case strings.Contains(place, "/usb"):
		return "usb"
	case strings.HasPrefix(name, "vd"), strings.Contains(place, "/virtio"):
		return "virtio"
	case strings.HasPrefix(name, "xvd"):
		return "xen"
	case strings.Contains(place, "/ata"):
		return "sata"
	case strings.Contains(place, "/end_device-"):
		return "sas"
	case strings.HasPrefix(name, "sd"):
		return "scsi"
	}
	return ""
}

type mount struct{ source, path, fstype, options string }

func (t tree) mountTable() []mount {
	var out []mount
	for line := range strings.Lines(t.text("proc/mounts")) {
		if f := strings.Fields(line); len(f) >= 4 {
			out = append(out, mount{unescape(f[0]), unescape(f[1]), f[2], f[3]})
		}
	}
	return out
}

// unescape undoes the kernel's octal escapes of blanks in mount paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mounts are the file systems on the disks, each source at its first place only: the others are bind mounts of it.
func (t tree) mounts(disks []api.Disk) []api.Mount {
	var out []api.Mount
	seen := map[string]bool{}
	for _, m := range t.mountTable() {
		if !strings.HasPrefix(m.source, "/dev/") || seen[m.source] || strings.HasPrefix(m.source, "/dev/loop") {
			continue
		}
		if len(disks) == 0 && m.path != "/" {
			continue
		}
		seen[m.source] = true
		out = append(out, api.Mount{
			Source: m.source, Path: m.path, Filesystem: m.fstype,
			ReadOnly: slices.Contains(strings.Split(m.options, ","), "ro"),
		})
	}
	return out
}

// fileSystemSize is zero when the mount has gone meanwhile.
func fileSystemSize(path string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0
	}
	return int64(s.Blocks) * int64(s.Frsize) //nolint:gosec // sizes of real file systems fit
}
