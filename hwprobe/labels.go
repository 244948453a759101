package hwprobe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/api"
)

// feature is the prefix of Node Feature Discovery's labels. What its documentation lists has the names it gives there; what
// it does not know of is below custom-, which it leaves to its users.
const (
	feature = "feature.node.kubernetes.io/"
	custom  = "custom-"
)

// Labels returns the node labels that an inventory stands for. Values that a label cannot hold are left out.
func Labels(inv api.Inventory) map[string]string {
	l := labels{}
	l.set(corev1.LabelArchStable, inv.Kernel.Architecture)
	l.set(corev1.LabelOSStable, "linux")
	l.set(corev1.LabelInstanceTypeStable, clean(inv.System.Product, "-"))
	l.cpu(inv)
	l.kernel(inv.Kernel)
	l.memory(inv)
	l.storage(inv.Disks)
	l.network(inv.Links)
	l.pci(inv.PCI)
	l.usb(inv.USB)
	for _, d := range inv.Devices {
		l.flag(custom+"device."+d.Class, true)
	}
	l.flag(custom+"tpm", inv.TPM != nil)
	l.flag(custom+"battery", hasBattery(inv.Power))
	return l
}

type labels map[string]string

func (l labels) set(key, value string) {
	if value != "" && len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0 {
		l[key] = value
	}
}

func (l labels) flag(name string, present bool) {
	if present {
		l.set(feature+name, "true")
	}
}

// cpuFlags are those worth scheduling by, of the kernel's names and as Node Feature Discovery spells them, by
// architecture; the hundred others would only be noise.
var cpuFlags = map[string]map[string]string{
	"amd64": {
		"adx": "ADX", "aes": "AESNI", "avx": "AVX", "avx2": "AVX2", "avx512f": "AVX512F", "avx512bw": "AVX512BW", "avx512vl": "AVX512VL",
		"avx512_vnni": "AVX512VNNI", "avx512_bf16": "AVX512BF16", "avx_vnni": "AVXVNNI", "amx_tile": "AMXTILE", "amx_int8": "AMXINT8",
		"amx_bf16": "AMXBF16", "fma": "FMA3", "gfni": "GFNI", "sha_ni": "SHA", "vaes": "VAES", "vmx": "VMX", "svm": "SVM", "hypervisor": "HYPERVISOR",
	},
	"arm64": {
		"aes": "AES", "asimd": "ASIMD", "asimddp": "ASIMDDP", "asimdhp": "ASIMDHP", "atomics": "ATOMICS", "crc32": "CRC32", "dcpop": "DCPOP",
		"fphp": "FPHP", "jscvt": "JSCVT", "pmull": "PMULL", "sha1": "SHA1", "sha2": "SHA2", "sha512": "SHA512", "sve": "SVE",
	},
	"arm": {
		"edsp": "EDSP", "idiva": "IDIVA", "idivt": "IDIVT", "lpae": "LPAE", "neon": "NEON", "thumb": "THUMB", "vfp": "VFP", "vfpv3": "VFPv3",
		"vfpv4": "VFPv4", "vfpd32": "VFPD32",
	},
}

// cpuVendors are the names that Node Feature Discovery gives to what x86 processors call themselves.
var cpuVendors = map[string]string{"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon", "CentaurHauls": "VIA"}

func (l labels) cpu(inv api.Inventory) {
	for _, f := range inv.CPU.Features {
		if name, ok := cpuFlags[inv.Kernel.Architecture][f]; ok {
			l.flag("cpu-cpuid."+name, true)
		}
	}
	vendor := inv.CPU.Vendor
	if name, ok := cpuVendors[vendor]; ok {
		vendor = name
	}
	l.set(feature+"cpu-model.vendor_id", clean(vendor, "_"))
	l.set(feature+"cpu-model.family", decimal(inv.CPU.Family))
	l.set(feature+"cpu-model.id", decimal(inv.CPU.ModelID))
	l.flag("cpu-hardware_multithreading", inv.CPU.Threads > inv.CPU.Cores)
}

// decimal turns the 0xd08 of arm's part numbers into the number that it is. It is empty for what is none.
func decimal(s string) string {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func (l labels) kernel(k api.Kernel) {
	l.set(feature+"kernel-version.full", clean(k.Version, "_"))
	l.parts("kernel-version.", []string{"major", "minor", "revision"}, k.Version)
	l.flag("kernel-selinux.enabled", k.Features["selinux"])
	l.set(feature+"system-os_release.ID", clean(k.OSID, "_"))
	l.set(feature+"system-os_release.VERSION_ID", clean(k.OSVersion, "_"))
	l.parts("system-os_release.VERSION_ID.", []string{"major", "minor"}, k.OSVersion)
}

// parts labels the leading numbers of a version.
func (l labels) parts(prefix string, names []string, version string) {
	for i, part := range strings.SplitN(version, ".", len(names)) {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(part)
		}
		l.set(feature+prefix+names[i], part[:end])
	}
}

func (l labels) memory(inv api.Inventory) {
	l.flag("memory-numa", len(inv.NUMA) > 1)
	l.flag("memory-swap.enabled", inv.Memory.SwapBytes > 0)
	for _, h := range inv.Memory.HugePages {
		l.flag(custom+"hugepages."+hugePageSize(h.SizeBytes), h.Total > 0)
	}
}

func (l labels) storage(disks []api.Disk) {
	for _, d := range disks {
		l.flag("storage-nonrotationaldisk", !d.Rotational)
	}
}

func (l labels) network(links []api.Link) {
	for _, link := range links {
		if link.Physical {
			l.flag(custom+"network."+link.Type, true)
			l.flag(custom+"network.10g", link.SpeedMbps >= 10_000)
		}
	}
}

func (l labels) pci(functions []api.PCI) {
	for _, p := range functions {
		if strings.HasPrefix(p.Class, "02") {
			l.flag("network-sriov.capable", p.MaxVirtualFunctions > 0)
			l.flag("network-sriov.configured", p.VirtualFunctions > 0)
		}
		if hasPrefix(p.Class, "02", "03", "0b", "12") { // what Node Feature Discovery publishes by default, and networks
			l.flag("pci-"+p.Class+"_"+p.Vendor+".present", true)
			l.flag("pci-"+p.Class+"_"+p.Vendor+".sriov.capable", p.MaxVirtualFunctions > 0)
		}
	}
}

func (l labels) usb(devices []api.USB) {
	for _, u := range devices {
		if hasPrefix(u.Class, "02", "08", "0e", "ef", "fe", "ff") { // likewise, with modems and sticks
			l.flag("usb-"+u.Class+"_"+u.Vendor+"_"+u.Product+".present", true)
		}
	}
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func hasBattery(supplies []api.Supply) bool {
	for _, s := range supplies {
		if s.Type == "Battery" {
			return true
		}
	}
	return false
}

// clean makes a label value of free text: what is not allowed becomes filler, once for each run of it, and it ends before
// 64 characters.
func clean(s, filler string) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
	return strings.Trim(fmt.Sprintf("%.63s", strings.Join(words, filler)), "-._")
}
