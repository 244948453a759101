package hwprobe

import (
	"strings"

	"skerry.dev/skerry/api"
)

func (t tree) system() api.System {
	s := api.System{
		MachineID: t.text("etc/machine-id"),
		BootID:    t.text("proc/sys/kernel/random/boot_id"),
	}
	const dmi, dt = "sys/class/dmi/id/", "proc/device-tree/"
	switch {
	case t.exists(dmi + "sys_vendor"), t.exists(dmi + "product_name"):
		s.Source = "dmi"
		s.Vendor, s.Product = t.dmi("sys_vendor", "board_vendor"), t.dmi("product_name", "board_name")
		if s.Vendor == "LENOVO" { // its product name is an order number; the name of the machine is in the version
			s.Product = t.dmi("product_version", "product_name")
		}
		s.Serial, s.BIOSVersion = t.dmi("product_serial", "board_serial"), t.text(dmi+"bios_version")
	case t.exists(dt + "model"):
		s.Source = "device-tree"
		s.Product, s.Serial = t.text(dt+"model"), t.text(dt+"serial-number")
		if vendor, _, ok := strings.Cut(t.compatible()[0], ","); ok {
			s.Vendor = vendor
		}
	}
	s.Virtualization = t.virtualization(s)
	return s
}

// dmi reads the first field that is not one of the fillers which boards without a serial or name carry.
func (t tree) dmi(fields ...string) string {
	for _, f := range fields {
		v := t.text("sys/class/dmi/id/" + f)
		switch strings.ToLower(v) {
		case "", "none", "default string", "not specified", "not applicable", "not available", "n/a", "system manufacturer", "system product name",
			"system serial number", "to be filled by o.e.m.", "o.e.m.", "oem", "empty", "invalid", "unknown", "0", "0123456789", "123456789":
		default:
			return v
		}
	}
	return ""
}

// compatible is the device tree's list of what the board is, most specific first; at least one, perhaps empty, string.
func (t tree) compatible() []string {
	return strings.Split(strings.Trim(t.text("proc/device-tree/compatible"), "\x00"), "\x00")
}

// vendors of virtual machines, as DMI spells them.
var hypervisors = []struct{ mark, name string }{
	{"qemu", "qemu"},
	{"kvm", "kvm"},
	{"vmware", "vmware"},
	{"virtualbox", "oracle"},
	{"innotek", "oracle"},
	{"xen", "xen"},
	{"bochs", "bochs"},
	{"parallels", "parallels"},
	{"amazon ec2", "amazon"},
	{"google compute engine", "google"},
	{"microsoft corporation virtual machine", "microsoft"},
	{"openstack", "kvm"},
	{"bhyve", "bhyve"},
	{"firecracker", "firecracker"},
}

func (t tree) virtualization(s api.System) string {
	board := strings.ToLower(s.Vendor + " " + s.Product)
	for _, h := range hypervisors {
		if strings.Contains(board, h.mark) {
			return h.name
		}
	}
	if kind := t.text("sys/hypervisor/type"); kind != "" {
		return kind
	}
	if strings.Contains(t.text("proc/device-tree/hypervisor/compatible"), "kvm") {
		return "kvm"
	}
	if strings.Contains(t.text("proc/cpuinfo"), " hypervisor") {
		return "unknown"
	}
	return ""
}

func (t tree) tpm() *api.TPM {
	names := t.names("sys/class/tpm")
	if len(names) == 0 {
		return nil
	}
	tpm := &api.TPM{Version: "1.2", Path: "/dev/" + names[0]}
	// Kernels before 5.6 do not say the version, but only a 2.0 has a resource manager.
	if t.text("sys/class/tpm/"+names[0]+"/tpm_version_major") == "2" || t.exists("sys/class/tpmrm/tpmrm"+strings.TrimPrefix(names[0], "tpm")) {
		tpm.Version = "2.0"
	}
	return tpm
}

func (t tree) clocks() []api.Clock {
	var out []api.Clock
	for _, name := range t.names("sys/class/rtc") {
		dir := "sys/class/rtc/" + name + "/"
		out = append(out, api.Clock{Name: t.text(dir + "name"), HWClock: t.text(dir+"hctosys") == "1", EpochSec: t.number(dir + "since_epoch")})
	}
	return out
}
