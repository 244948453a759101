package hwprobe

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/api"
)

// feature is the prefix that Node Feature Discovery gives its labels; names below it are as its documentation lists them
// (cpu-cpuid, kernel-version, memory-numa, pci-<class>_<vendor>.present, usb-..., storage-nonrotationaldisk, system-os_release).
const feature = "feature.node.kubernetes.io/"

// Labels returns the node labels that an inventory stands for. Values that a label cannot hold are left out.
func Labels(inv api.Inventory) map[string]string {
	l := labels{}
	l.set(corev1.LabelArchStable, inv.Kernel.Architecture)
	l.set(corev1.LabelOSStable, "linux")
	l.set(corev1.LabelInstanceTypeStable, clean(inv.System.Product))
	l.cpu(inv)
	l.kernel(inv.Kernel)
	l.flag("memory-numa", len(inv.NUMA) > 1)
	l.flag("memory-swap", inv.Memory.SwapBytes > 0)
	for _, h := range inv.Memory.HugePages {
		l.flag("memory-hugepages", h.Total > 0)
	}
	l.storage(inv.Disks)
	l.network(inv.Links)
	for _, p := range inv.PCI {
		switch p.Class[:2] {
		case "02", "03", "0b", "12", "40": // what NFD publishes by default, with network controllers
			l.flag("pci-"+p.Class+"_"+p.Vendor+".present", true)
		}
	}
	for _, u := range inv.USB {
		switch u.Class {
		case "0e", "ef", "fe", "ff", "02", "08":
			l.flag("usb-"+u.Class+"_"+u.Vendor+"_"+u.Product+".present", true)
		}
	}
	for _, d := range inv.Devices {
		l.flag("device-"+d.Class+".present", true)
	}
	l.flag("tpm.present", inv.TPM != nil)
	l.flag("battery.present", hasBattery(inv.Power))
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

// cpuFeatures are the flags worth scheduling by, as NFD spells them; the hundred others would only be noise.
var cpuFeatures = map[string]string{
	"adx": "ADX", "aes": "AESNI", "avx": "AVX", "avx2": "AVX2", "avx512f": "AVX512F", "avx512_vnni": "AVX512VNNI", "amx_tile": "AMXTILE",
	"fma": "FMA3", "sha_ni": "SHA", "vmx": "VMX", "svm": "SVM", "asimd": "ASIMD", "neon": "NEON", "crc32": "CRC32", "sve": "SVE",
	"sha2": "SHA2", "pmull": "PMULL", "atomics": "ATOMICS", "asimddp": "ASIMDDP", "hypervisor": "HYPERVISOR",
}

func (l labels) cpu(inv api.Inventory) {
	for _, f := range inv.CPU.Features {
		if name, ok := cpuFeatures[f]; ok {
			l.flag("cpu-cpuid."+name, true)
		}
		if f == "aes" && inv.Kernel.Architecture != "amd64" {
			l.flag("cpu-cpuid.AES", true)
			delete(l, feature+"cpu-cpuid.AESNI")
		}
	}
	l.set(feature+"cpu-model.vendor_id", clean(inv.CPU.Vendor))
	l.set(feature+"cpu-model.family", clean(inv.CPU.Family))
	l.set(feature+"cpu-model.id", clean(inv.CPU.ModelID))
	l.flag("cpu-hardware_multithreading", inv.CPU.Threads > inv.CPU.Cores)
}

func (l labels) kernel(k api.Kernel) {
	l.set(feature+"kernel-version.full", clean(k.Version))
	parts := strings.SplitN(k.Version, ".", 3)
	if len(parts) == 3 {
		l.set(feature+"kernel-version.major", parts[0])
		l.set(feature+"kernel-version.minor", parts[1])
	}
	l.flag("kernel-selinux.enabled", k.Features["selinux"])
	l.set(feature+"system-os_release.ID", clean(k.OSID))
	l.set(feature+"system-os_release.VERSION_ID", clean(k.OSVersion))
}

func (l labels) storage(disks []api.Disk) {
	for _, d := range disks {
		l.flag("storage-nonrotationaldisk", !d.Rotational)
		l.flag("storage-removable", d.Removable)
	}
}

func (l labels) network(links []api.Link) {
	for _, link := range links {
		if link.Physical {
			l.flag("network-"+link.Type+".present", true)
			if link.SpeedMbps >= 10_000 {
				l.flag("network-10g", true)
			}
		}
	}
}

func hasBattery(supplies []api.Supply) bool {
	for _, s := range supplies {
		if s.Type == "Battery" {
			return true
		}
	}
	return false
}

// clean makes a label value of free text: what is not allowed becomes a dash, and it ends before 63 characters.
func clean(s string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, s)
	for strings.Contains(mapped, "--") {
		mapped = strings.ReplaceAll(mapped, "--", "-")
	}
	return strings.Trim(fmt.Sprintf("%.63s", mapped), "-._")
}
