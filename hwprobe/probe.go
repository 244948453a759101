package hwprobe

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"skerry.dev/skerry/api"
)

// Probe reads the inventory of the machine whose root directory fsys is. Hardware that is absent, or whose files make no
// sense, is left out; an error means that not even /proc could be read, so that the result says nothing.
func Probe(fsys fs.FS) (api.Inventory, error) {
	t := tree{fsys}
	if _, err := fs.Stat(fsys, "proc"); err != nil {
		return api.Inventory{}, fmt.Errorf("probe hardware: %w", err)
	}
	inv := api.Inventory{
		System:  t.system(),
		Kernel:  t.kernel(),
		CPU:     t.cpu(),
		Memory:  t.memory(),
		NUMA:    t.numa(),
		Disks:   t.disks(),
		Links:   t.links(),
		PCI:     t.pci(),
		USB:     t.usb(),
		Devices: t.devices(),
		Sensors: t.sensors(),
		Power:   t.supplies(),
		TPM:     t.tpm(),
		Clocks:  t.clocks(),
	}
	inv.Mounts = t.mounts(inv.Disks)
	return inv, nil
}

// Host probes this machine: Probe of /, with the addresses of its links and the sizes of its file systems.
func Host() (api.Inventory, error) {
	inv, err := Probe(os.DirFS("/"))
	if err != nil {
		return inv, err
	}
	addresses, err := hostAddresses()
	if err != nil {
		return inv, fmt.Errorf("read link addresses: %w", err)
	}
	for i := range inv.Links {
		inv.Links[i].Addresses = addresses[inv.Links[i].Name]
	}
	for i := range inv.Mounts {
		inv.Mounts[i].SizeBytes = fileSystemSize(inv.Mounts[i].Path)
	}
	return inv, nil
}

func hostAddresses() (map[string][]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, l := range links {
		addresses, err := l.Addrs()
		if err != nil { // it has gone meanwhile: pods' links do
			continue
		}
		for _, a := range addresses {
			out[l.Name] = append(out[l.Name], a.String())
		}
		slices.Sort(out[l.Name])
	}
	return out, nil
}
