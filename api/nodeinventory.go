package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeInventory is what a node's agent found when it probed the machine. It is cluster-scoped, has the node's name, and
// its only writer is the coordinator on behalf of that node's agent.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeInventory struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Inventory Inventory `json:"inventory"`
}

// NodeInventoryList is a list of inventories.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeInventoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []NodeInventory `json:"items"`
}

// Inventory is the hardware and kernel of one machine. Absent hardware is an empty slice or a zero value, never an error.
type Inventory struct {
	System  System   `json:"system"`
	Kernel  Kernel   `json:"kernel"`
	CPU     CPU      `json:"cpu"`
	Memory  Memory   `json:"memory"`
	NUMA    []NUMA   `json:"numa,omitempty"`
	Disks   []Disk   `json:"disks,omitempty"`
	Mounts  []Mount  `json:"mounts,omitempty"`
	Links   []Link   `json:"links,omitempty"`
	PCI     []PCI    `json:"pci,omitempty"`
	USB     []USB    `json:"usb,omitempty"`
	Devices []Device `json:"devices,omitempty"`
	Sensors []Sensor `json:"sensors,omitempty"`
	Power   []Supply `json:"power,omitempty"`
	TPM     *TPM     `json:"tpm,omitempty"`
	Clocks  []Clock  `json:"clocks,omitempty"`
}

// System identifies the board from DMI or the device tree.
type System struct {
	Vendor         string `json:"vendor,omitempty"`
	Product        string `json:"product,omitempty"`
	Serial         string `json:"serial,omitempty"`
	BIOSVersion    string `json:"biosVersion,omitempty"`
	Source         string `json:"source,omitempty"` // "dmi", "device-tree" or ""
	Virtualization string `json:"virtualization,omitempty"`
	MachineID      string `json:"machineID,omitempty"`
	BootID         string `json:"bootID,omitempty"`
}

// Kernel is the running kernel and the features of it that Skerry relies on.
type Kernel struct {
	Version       string          `json:"version"`
	Architecture  string          `json:"architecture"`  // as Go names it: amd64, arm64, arm
	CgroupVersion string          `json:"cgroupVersion"` // "v1", "v2", "hybrid" or "" when no cgroups are mounted
	Controllers   []string        `json:"controllers,omitempty"`
	Filesystems   []string        `json:"filesystems,omitempty"`
	Features      map[string]bool `json:"features,omitempty"`  // e.g. overlay, user-namespaces, seccomp, nftables, pidfd
	OSImage       string          `json:"osImage,omitempty"`   // for people
	OSID          string          `json:"osID,omitempty"`      // ID of /etc/os-release: debian
	OSVersion     string          `json:"osVersion,omitempty"` // VERSION_ID of it: 12
}

// CPU describes the processors.
type CPU struct {
	Model      string   `json:"model,omitempty"`
	Vendor     string   `json:"vendor,omitempty"`
	Family     string   `json:"family,omitempty"`
	ModelID    string   `json:"modelID,omitempty"`
	Sockets    int      `json:"sockets"`
	Cores      int      `json:"cores"`
	Threads    int      `json:"threads"` // online logical CPUs: what the node can schedule
	MaxMHz     int      `json:"maxMHz,omitempty"`
	CacheBytes int64    `json:"cacheBytes,omitempty"` // largest last-level cache of one CPU
	Features   []string `json:"features,omitempty"`   // the kernel's flag names, sorted
}

// Memory is the machine's memory.
type Memory struct {
	TotalBytes int64      `json:"totalBytes"`
	SwapBytes  int64      `json:"swapBytes,omitempty"`
	HugePages  []HugePage `json:"hugePages,omitempty"`
}

// HugePage is one pool of huge pages.
type HugePage struct {
	SizeBytes int64 `json:"sizeBytes"`
	Total     int64 `json:"total"`
	Free      int64 `json:"free"`
}

// NUMA is one memory node.
type NUMA struct {
	ID          int    `json:"id"`
	CPUs        string `json:"cpus"` // kernel list format: 0-3,8
	MemoryBytes int64  `json:"memoryBytes"`
}

// Disk is one block device that holds data (no loop, ram or device-mapper devices).
type Disk struct {
	Name       string `json:"name"`
	SizeBytes  int64  `json:"sizeBytes"`
	Rotational bool   `json:"rotational"`
	Removable  bool   `json:"removable"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Bus        string `json:"bus,omitempty"` // nvme, sata, usb, mmc, virtio ...
	WWID       string `json:"wwid,omitempty"`
}

// Mount is a mounted file system that is backed by a disk.
type Mount struct {
	Source     string `json:"source"`
	Path       string `json:"path"`
	Filesystem string `json:"filesystem"`
	SizeBytes  int64  `json:"sizeBytes,omitempty"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
}

// Link is one network interface.
type Link struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"` // ethernet, wifi, wwan, bridge, bond, vlan, veth, loopback, tunnel, ppp, can, virtual ...
	MAC       string   `json:"mac,omitempty"`
	SpeedMbps int      `json:"speedMbps,omitempty"` // 0 when the driver does not say
	MTU       int      `json:"mtu,omitempty"`
	Up        bool     `json:"up"`
	Driver    string   `json:"driver,omitempty"`
	Physical  bool     `json:"physical"` // backed by a device, not made by software
	Addresses []string `json:"addresses,omitempty"`
}

// PCI is one PCI function.
type PCI struct {
	Address   string `json:"address"`
	Class     string `json:"class"` // four hex digits: base class and subclass
	ClassName string `json:"className,omitempty"`
	Vendor    string `json:"vendor"`
	Device    string `json:"device"`
	Driver    string `json:"driver,omitempty"`
	NUMANode  int    `json:"numaNode"` // -1 when the firmware does not say
	// SR-IOV: how many virtual functions the device can have, and has.
	MaxVirtualFunctions int `json:"maxVirtualFunctions,omitempty"`
	VirtualFunctions    int `json:"virtualFunctions,omitempty"`
}

// USB is one USB device (not a hub's root).
type USB struct {
	Path      string `json:"path"` // bus-port chain, e.g. 1-1.2
	Class     string `json:"class"`
	ClassName string `json:"className,omitempty"`
	Vendor    string `json:"vendor"`
	Product   string `json:"product"`
	Name      string `json:"name,omitempty"`
	Serial    string `json:"serial,omitempty"`
	Node      string `json:"node,omitempty"`   // under /dev, for programs that drive the device themselves
	Driver    string `json:"driver,omitempty"` // of the kernel, for the first of its interfaces that has one
}

// Device is a device node that a workload may claim.
type Device struct {
	Class string `json:"class"` // serial, i2c, spi, gpio, video, gpu, sound, watchdog, ipmi; usb or file for what the agent's settings name
	Name  string `json:"name"`
	Path  string `json:"path"` // under /dev
	Label string `json:"label,omitempty"`
	// USB is the Path of the USB device that it is a part of.
	USB string `json:"usb,omitempty"`
	// Console says that the kernel's console is on it.
	Console bool `json:"console,omitempty"`
	// Resource is what a pod asks for to claim it, skerry.dev/<class>; empty for what cannot be claimed.
	Resource string `json:"resource,omitempty"`
}

// Sensor is one reading of a thermal zone or hwmon channel at probe time.
type Sensor struct {
	Chip  string  `json:"chip"`
	Name  string  `json:"name"`
	Kind  string  `json:"kind"`  // temperature, fan, voltage, power, current
	Value float64 `json:"value"` // degrees Celsius, RPM, volts, watts, amperes
}

// Supply is a battery or a mains adapter.
type Supply struct {
	Name            string `json:"name"`
	Type            string `json:"type"` // Battery, Mains, USB, UPS
	Online          *bool  `json:"online,omitempty"`
	CapacityPercent *int   `json:"capacityPercent,omitempty"`
	Status          string `json:"status,omitempty"`
}

// TPM is the trusted platform module.
type TPM struct {
	Version string `json:"version"` // "1.2" or "2.0"
	Path    string `json:"path"`
}

// Clock is a real-time clock.
type Clock struct {
	Name     string `json:"name"`
	HWClock  bool   `json:"hwClock"`  // the kernel sets the system time from it
	EpochSec int64  `json:"epochSec"` // its time at the probe, seconds since 1970
}
