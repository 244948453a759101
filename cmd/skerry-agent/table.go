package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"

	"skerry.dev/skerry/api"
)

// writeYAML goes by way of JSON, so that both have the same names.
func writeYAML(out io.Writer, inv api.Inventory) error {
	data, err := json.Marshal(inv)
	if err != nil {
		return fmt.Errorf("encode inventory: %w", err)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(data, &tree); err != nil { // JSON is YAML
		return fmt.Errorf("encode inventory: %w", err)
	}
	block(&tree)
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	return errors.Join(e.Encode(&tree), e.Close())
}

// block takes JSON's style off a tree.
func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}

// writeTable is the inventory for people: one line per thing, the class first.
func writeTable(out io.Writer, inv api.Inventory) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(class, name string, more ...string) {
		fmt.Fprintf(t, "%s\t%s\t%s\n", class, name, strings.Join(slices.DeleteFunc(more, func(s string) bool { return s == "" }), ", "))
	}
	row("CLASS", "NAME", "WHAT")
	machine(row, inv)
	storage(row, inv)
	devices(row, inv)
	return t.Flush()
}

type rowFunc func(class, name string, more ...string)

func machine(row rowFunc, inv api.Inventory) {
	row("system", strings.TrimSpace(inv.System.Vendor+" "+inv.System.Product), inv.System.Virtualization)
	row("kernel", inv.Kernel.Version, inv.Kernel.Architecture, inv.Kernel.OSImage, "cgroups "+inv.Kernel.CgroupVersion)
	row("features", "", features(inv.Kernel.Features))
	row("cpu", inv.CPU.Model, fmt.Sprintf("%d sockets, %d cores, %d threads", inv.CPU.Sockets, inv.CPU.Cores, inv.CPU.Threads), megahertz(inv.CPU.MaxMHz))
	row("memory", bytes(inv.Memory.TotalBytes), unless(inv.Memory.SwapBytes == 0, "swap "+bytes(inv.Memory.SwapBytes)))
	for _, h := range inv.Memory.HugePages {
		row("hugepages", bytes(h.SizeBytes), fmt.Sprintf("%d, %d free", h.Total, h.Free))
	}
	for _, n := range inv.NUMA {
		row("numa", fmt.Sprint(n.ID), "cpus "+n.CPUs, bytes(n.MemoryBytes))
	}
}

func storage(row rowFunc, inv api.Inventory) {
	for _, d := range inv.Disks {
		row("disk", d.Name, bytes(d.SizeBytes), d.Bus, d.Model, flag(d.Rotational, "rotational"), flag(d.Removable, "removable"), flag(d.ReadOnly, "read-only"))
	}
	for _, m := range inv.Mounts {
		row("mount", m.Path, m.Filesystem, m.Source, bytes(m.SizeBytes), flag(m.ReadOnly, "read-only"))
	}
	for _, l := range inv.Links {
		row("link", l.Name, l.Type, speed(l.SpeedMbps), map[bool]string{true: "up", false: "down"}[l.Up], strings.Join(l.Addresses, " "), l.Driver)
	}
}

func devices(row rowFunc, inv api.Inventory) {
	for _, p := range inv.PCI {
		row("pci", p.Address, or(p.ClassName, p.Class), p.Vendor+":"+p.Device, p.Driver)
	}
	for _, u := range inv.USB {
		row("usb", u.Path, or(u.ClassName, u.Class), u.Vendor+":"+u.Product, u.Name)
	}
	for _, d := range inv.Devices {
		row("device", d.Path, d.Class, d.Label)
	}
	for _, s := range inv.Sensors {
		row("sensor", s.Chip+"/"+s.Name, s.Kind, fmt.Sprintf("%g", s.Value))
	}
	for _, p := range inv.Power {
		row("power", p.Name, p.Type, p.Status)
	}
	if inv.TPM != nil {
		row("tpm", inv.TPM.Path, inv.TPM.Version)
	}
	for _, c := range inv.Clocks {
		row("clock", c.Name, flag(c.HWClock, "sets the system time"))
	}
}

// features marks what the kernel lacks with a leading minus.
func features(set map[string]bool) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, unless(!set[name], name)+unless(set[name], "-"+name))
	}
	return strings.Join(out, " ")
}

func unless(not bool, s string) string {
	if not {
		return ""
	}
	return s
}

func flag(on bool, name string) string { return unless(!on, name) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func megahertz(n int) string { return unless(n == 0, fmt.Sprintf("%d MHz", n)) }
func speed(mbps int) string  { return unless(mbps <= 0, fmt.Sprintf("%d Mbit/s", mbps)) }

// bytes is a size in the largest unit that gives at least one.
func bytes(n int64) string {
	if n == 0 {
		return ""
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, u := float64(n), 0
	for ; v >= 1024 && u < len(units)-1; u++ {
		v /= 1024
	}
	return fmt.Sprintf("%.4g %s", v, units[u])
}
