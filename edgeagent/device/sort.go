package device

import (
	"maps"
	"slices"
	"strings"

	"skerry.dev/skerry/api"
)

// Device is a device node that can be claimed.
type Device struct {
	// ID stays the same while the node is that of the same piece of hardware, as far as that can be told.
	ID    string
	Class string
	Path  string
}

// Settings are what is offered.
type Settings struct {
	Rules []Rule
	Kinds []string // of BuiltIn
}

// Sort says what can be claimed of a machine, and returns the inventory with every device that can be, and its resource.
// files are device nodes that exist at paths which rules name, each with all these paths: links lead to one. The first rule that matches decides; what no rule matches is
// of its built-in class. The kernel's console is nobody's but a rule's.
func Sort(s Settings, inv api.Inventory, files map[string][]string) ([]Device, api.Inventory) {
	usb := map[string]api.USB{}
	for _, u := range inv.USB {
		usb[u.Path] = u
	}
	var out []Device
	var listed []api.Device
	for _, d := range candidates(inv, files) {
		class := s.class(d, append(files[d.Path], d.Path), usb[d.USB])
		if class == "" {
			if d.Class != "usb" && d.Class != "file" {
				listed = append(listed, d)
			}
			continue
		}
		d.Resource = ResourcePrefix + class
		listed = append(listed, d)
		out = append(out, Device{ID: identity(d, usb[d.USB]), Class: class, Path: d.Path})
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Path, b.Path) })
	inv.Devices = listed
	return out, inv
}

// candidates are the devices of the inventory, USB devices that have none of these, and files that are none of them.
func candidates(inv api.Inventory, files map[string][]string) []api.Device {
	out := slices.Clone(inv.Devices)
	known, parts := map[string]bool{}, map[string]bool{}
	for _, d := range out {
		known[d.Path], parts[d.USB] = true, true
	}
	for _, u := range inv.USB {
		if u.Node != "" && !parts[u.Path] && u.Class != "09" { // no hub
			out = append(out, api.Device{Class: "usb", Name: u.Path, Path: u.Node, Label: u.Name, USB: u.Path})
			known[u.Node] = true
		}
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		if !known[f] {
			out = append(out, api.Device{Class: "file", Name: f[strings.LastIndexByte(f, '/')+1:], Path: f})
		}
	}
	return out
}

func (s Settings) class(d api.Device, paths []string, usb api.USB) string {
	for _, r := range s.Rules {
		if r.matches(d, paths, usb) {
			return r.Class
		}
	}
	if d.Console || !slices.Contains(s.Kinds, d.Class) {
		return ""
	}
	if d.Class != "usb" {
		return d.Class
	}
	if usb.Driver != "" { // the kernel uses it
		return ""
	}
	return "usb-" + usb.Vendor + "-" + usb.Product
}

// identity tells two devices at one path apart where hardware says who it is.
func identity(d api.Device, usb api.USB) string {
	if usb.Vendor == "" {
		return d.Path
	}
	return d.Path + " " + usb.Vendor + ":" + usb.Product + " " + usb.Serial
}
