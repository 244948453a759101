package hwprobe

import (
	"fmt"
	"slices"
	"strings"

	"skerry.dev/skerry/api"
)

func (t tree) pci() []api.PCI {
	const bus = "sys/bus/pci/devices"
	var out []api.PCI
	for _, address := range t.names(bus) {
		dir := bus + "/" + address + "/"
		class := t.hex(dir + "class") // six digits: base class, subclass, interface
		if len(class) < 4 {
			continue
		}
		p := api.PCI{
			Address: address, Class: class[:4], ClassName: pciClass(class[:4]),
			Vendor: t.hex(dir + "vendor"), Device: t.hex(dir + "device"), Driver: t.linkName(dir + "driver"), NUMANode: -1,
			MaxVirtualFunctions: t.count(dir + "sriov_totalvfs"), VirtualFunctions: t.count(dir + "sriov_numvfs"),
		}
		if n := t.text(dir + "numa_node"); n != "" && n[0] != '-' {
			p.NUMANode = t.count(dir + "numa_node")
		}
		out = append(out, p)
	}
	return out
}

// PCI classes, from the PCI-SIG's code and ID assignment specification; the longest match names the function.
var pciClasses = map[string]string{
	"00": "unclassified", "01": "storage", "0101": "ide", "0104": "raid", "0106": "sata", "0108": "nvme", "02": "network", "0280": "wireless",
	"03": "display", "0300": "vga", "0302": "3d", "04": "multimedia", "0403": "audio", "05": "memory", "06": "bridge",
	"07": "communication", "0700": "serial", "08": "system", "09": "input", "0b": "processor", "0c": "serial-bus", "0c03": "usb",
	"0c05": "smbus", "0d": "wireless", "0e": "intelligent", "10": "encryption", "11": "signal-processing", "12": "accelerator",
	"13": "instrumentation", "40": "coprocessor", "0b40": "coprocessor", "ff": "unassigned", "0380": "display",
}

func pciClass(class string) string {
	if name, ok := pciClasses[class]; ok {
		return name
	}
	return pciClasses[class[:2]]
}

func (t tree) usb() []api.USB {
	const bus = "sys/bus/usb/devices"
	var out []api.USB
	for _, path := range t.names(bus) {
		dir := bus + "/" + path + "/"
		vendor := t.hex(dir + "idVendor")
		if vendor == "" || strings.HasPrefix(path, "usb") { // an interface, or a root hub
			continue
		}
		class := t.hex(dir + "bDeviceClass")
		if class == "00" { // each interface says for itself; the first speaks for the device
			class = t.interfaceClass(bus, path)
		}
		out = append(out, api.USB{
			Node: t.usbNode(dir), Driver: t.usbDriver(bus, path),
			Path: path, Class: class, ClassName: usbClasses[class], Vendor: vendor, Product: t.hex(dir + "idProduct"),
			Name: strings.TrimSpace(t.text(dir+"manufacturer") + " " + t.text(dir+"product")), Serial: t.text(dir + "serial"),
		})
	}
	return out
}

// usbNode is where programs find the device: usbfs numbers buses and devices.
func (t tree) usbNode(dir string) string {
	bus, device := t.count(dir+"busnum"), t.count(dir+"devnum")
	if bus == 0 || device == 0 {
		return ""
	}
	return fmt.Sprintf("/dev/bus/usb/%03d/%03d", bus, device)
}

// usbDriver is the kernel's driver of the first interface that has one. That of usbfs only says that a program is at work.
func (t tree) usbDriver(bus, path string) string {
	for _, name := range t.names(bus) {
		if !strings.HasPrefix(name, path+":") {
			continue
		}
		if driver := t.linkName(bus + "/" + name + "/driver"); driver != "" && driver != "usbfs" {
			return driver
		}
	}
	return ""
}

// usbOf is the USB device that a device is a part of: the nearest one above it in the device tree. Empty when none is.
func (t tree) usbOf(dir string) string {
	place := t.link(strings.TrimSuffix(dir, "/"))
	parts := strings.Split(place, "/")
	for _, part := range slices.Backward(parts) {
		if part != "" && t.hex("sys/bus/usb/devices/"+part+"/idVendor") != "" {
			return part
		}
	}
	return ""
}

func (t tree) interfaceClass(bus, path string) string {
	for _, name := range t.names(bus) {
		if strings.HasPrefix(name, path+":") {
			return t.hex(bus + "/" + name + "/bInterfaceClass")
		}
	}
	return "00"
}

// USB classes, from the USB-IF's defined class codes.
var usbClasses = map[string]string{
	"01": "audio", "02": "communications", "03": "hid", "05": "physical", "06": "image", "07": "printer", "08": "storage", "09": "hub",
	"0a": "cdc-data", "0b": "smart-card", "0d": "content-security", "0e": "video", "0f": "healthcare", "10": "audio-video",
	"dc": "diagnostic", "e0": "wireless", "ef": "miscellaneous", "fe": "application", "ff": "vendor-specific",
}
