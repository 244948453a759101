package hwprobe

import (
	"slices"
	"strconv"
	"strings"

	"skerry.dev/skerry/api"
)

func (t tree) cpu() api.CPU {
	text := t.text("proc/cpuinfo")
	info := cpuinfo(text)
	c := api.CPU{
		Model:    first(info, "model name", "cpu model", "uarch"),
		Vendor:   first(info, "vendor_id", "mvendorid"),
		Family:   first(info, "cpu family", "CPU architecture"),
		ModelID:  first(info, "model", "CPU part"),
		Features: strings.Fields(first(info, "flags", "Features", "isa")),
	}
	if implementer := info["CPU implementer"]; implementer != "" {
		c.Vendor = armVendor(implementer)
		if cores := armCores(text); len(cores) > 0 { // better than the "ARMv7 Processor rev 3 (v7l)" of the kernel
			c.Model = strings.Join(cores, " + ")
		}
	}
	slices.Sort(c.Features)
	online := t.online()
	t.topology(&c, online)
	if c.Threads == 0 { // some containers hide sysfs
		c.Threads = strings.Count("\n"+text, "\nprocessor")
		c.Sockets, c.Cores = min(1, c.Threads), c.Threads
	}
	c.MaxMHz = t.maxMHz(online)
	c.CacheBytes = t.lastLevelCache()
	return c
}

// cpuinfo reads the first value of each key of /proc/cpuinfo: on x86 that is CPU 0, on arm the board's own lines follow.
func cpuinfo(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if key = strings.TrimSpace(key); !ok || key == "" {
			continue
		}
		if _, seen := out[key]; !seen {
			out[key] = strings.TrimSpace(value)
		}
	}
	return out
}

func first(values map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := values[k]; v != "" {
			return v
		}
	}
	return ""
}

// armVendors are the implementers of the kernel's arch/arm64/include/asm/cputype.h.
var armVendors = map[string]string{
	"0x41": "ARM", "0x42": "Broadcom", "0x43": "Cavium", "0x46": "Fujitsu", "0x48": "HiSilicon", "0x4e": "NVIDIA", "0x50": "AMCC",
	"0x51": "Qualcomm", "0x53": "Samsung", "0x56": "Marvell", "0x61": "Apple", "0x6d": "Microsoft", "0xc0": "Ampere",
}

func armVendor(implementer string) string {
	if name, ok := armVendors[implementer]; ok {
		return name
	}
	return implementer
}

// armParts names the cores of common boards by implementer and part, as the same header and its 32 bit sibling do.
var armParts = map[string]string{
	"0x41/0xb76": "ARM1176", "0x41/0xc05": "Cortex-A5", "0x41/0xc07": "Cortex-A7", "0x41/0xc08": "Cortex-A8", "0x41/0xc09": "Cortex-A9",
	"0x41/0xc0d": "Cortex-A17", "0x41/0xc0f": "Cortex-A15", "0x41/0xd03": "Cortex-A53", "0x41/0xd04": "Cortex-A35", "0x41/0xd05": "Cortex-A55",
	"0x41/0xd07": "Cortex-A57", "0x41/0xd08": "Cortex-A72", "0x41/0xd09": "Cortex-A73", "0x41/0xd0a": "Cortex-A75", "0x41/0xd0b": "Cortex-A76",
	"0x41/0xd0c": "Neoverse-N1", "0x41/0xd0d": "Cortex-A77", "0x41/0xd40": "Neoverse-V1", "0x41/0xd41": "Cortex-A78", "0x41/0xd42": "Cortex-A78AE",
	"0x41/0xd46": "Cortex-A510", "0x41/0xd47": "Cortex-A710", "0x41/0xd49": "Neoverse-N2", "0x41/0xd4f": "Neoverse-V2",
	"0x4e/0x004": "Carmel", "0xc0/0xac3": "Ampere-1",
}

// armCores are the kinds of cores, each once, in the order of the CPUs: a board may mix small and large ones.
func armCores(text string) []string {
	var out []string
	implementer := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "CPU implementer":
			implementer = value
		case "CPU part":
			if core := armParts[implementer+"/"+value]; core != "" && !slices.Contains(out, core) {
				out = append(out, core)
			}
		}
	}
	return out
}

// online are the CPUs that run; without the kernel's word on it, those it has folders for.
func (t tree) online() []int {
	if cpus := cpuList(t.text("sys/devices/system/cpu/online")); len(cpus) > 0 {
		return cpus
	}
	var out []int
	for _, name := range t.names("sys/devices/system/cpu") {
		if digits, ok := strings.CutPrefix(name, "cpu"); ok {
			out = append(out, cpuList(digits)...)
		}
	}
	slices.Sort(out)
	return out
}

// topology counts packages, and cores as sets of threads that share one.
func (t tree) topology(c *api.CPU, online []int) {
	sockets, cores := map[string]bool{}, map[string]bool{}
	for _, id := range online {
		dir := "sys/devices/system/cpu/cpu" + strconv.Itoa(id) + "/topology/"
		sockets[t.text(dir+"physical_package_id")] = true
		core := firstText(t, dir+"core_cpus_list", dir+"thread_siblings_list") // kernels before 5.3 know the latter only
		if core == "" {
			core = strconv.Itoa(id)
		}
		cores[core] = true
	}
	c.Threads, c.Sockets, c.Cores = len(online), len(sockets), len(cores)
}

// maxCPUs is more than any kernel is built for.
const maxCPUs = 1 << 14

// cpuList reads the kernel's list format, 0-3,8, which is sorted. Nonsense ends the list.
func cpuList(s string) []int {
	var out []int
	next := 0
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		low, high, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(high)
		}
		if err != nil || a < next || b < a || b >= maxCPUs {
			return out
		}
		for i := a; i <= b; i++ {
			out = append(out, i)
		}
		next = b + 1
	}
	return out
}

// maxMHz is that of the fastest CPU.
func (t tree) maxMHz(online []int) int {
	fastest := 0
	for _, id := range online {
		fastest = max(fastest, t.count("sys/devices/system/cpu/cpu"+strconv.Itoa(id)+"/cpufreq/cpuinfo_max_freq"))
	}
	return fastest / 1000
}

func (t tree) lastLevelCache() int64 {
	const dir = "sys/devices/system/cpu/cpu0/cache/"
	var largest int64
	for _, name := range t.names(dir[:len(dir)-1]) {
		largest = max(largest, kernelSize(t.text(dir+name+"/size")))
	}
	return largest
}

// kernelSize reads 512K, 8M or plain bytes. Nonsense is zero.
func kernelSize(s string) int64 {
	unit := int64(1)
	switch {
	case strings.HasSuffix(s, "K"):
		unit, s = 1<<10, s[:len(s)-1]
	case strings.HasSuffix(s, "M"):
		unit, s = 1<<20, s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0
	}
	return n * unit
}
