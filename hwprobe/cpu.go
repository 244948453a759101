package hwprobe

import (
	"slices"
	"strconv"
	"strings"

	"skerry.dev/skerry/api"
)

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (t tree) cpu() api.CPU {
	info := t.cpuinfo()
	c := api.CPU{
		Model:    first(info, "model name", "Model", "Hardware", "cpu model", "uarch"),
		Vendor:   first(info, "vendor_id", "CPU implementer"),
		Family:   first(info, "cpu family", "CPU architecture"),
		ModelID:  first(info, "model", "CPU part"),
		Features: strings.Fields(first(info, "flags", "Features", "isa")),
	}
	if vendor, core, ok := armCore(c.Vendor, c.ModelID); ok {
		c.Vendor = vendor
		if !strings.Contains(strings.ToLower(c.Model), "cortex") && first(info, "model name") == "" {
			c.Model = core
		}
	}
	slices.Sort(c.Features)
	t.topology(&c)
	c.MaxMHz = int(t.number("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq") / 1000)
	c.CacheBytes = t.lastLevelCache()
	return c
}

// cpuinfo reads the first value of each key of /proc/cpuinfo: on x86 that is CPU 0, on arm the board's own lines follow.
func (t tree) cpuinfo() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(t.text("proc/cpuinfo")) {
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

// armParts names the cores of common boards by implementer and part, as the kernel's arch/arm64/include/asm/cputype.h does.
var armParts = map[string]string{
	"0xc07": "Cortex-A7", "0xc09": "Cortex-A9", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
	"0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
	"0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd49": "Neoverse-N2",
}

func armCore(implementer, part string) (vendor, core string, ok bool) {
	if implementer != "0x41" {
		return "", "", false
	}
	return "ARM", armParts[part], true
}

// topology counts what sysfs shows online. Without it (some containers hide it) the entries of /proc/cpuinfo must do.
func (t tree) topology(c *api.CPU) {
	sockets, cores := map[string]bool{}, map[string]bool{}
	online := cpuList(t.text("sys/devices/system/cpu/online"))
	for _, id := range online {
		dir := "sys/devices/system/cpu/cpu" + strconv.Itoa(id) + "/topology/"
		socket, core := t.text(dir+"physical_package_id"), t.text(dir+"core_id")
		sockets[socket] = true
		cores[socket+"/"+t.text(dir+"cluster_id")+"/"+core] = true
	}
	c.Threads, c.Sockets, c.Cores = len(online), len(sockets), len(cores)
	if c.Threads == 0 {
		c.Threads = strings.Count("\n"+t.text("proc/cpuinfo"), "\nprocessor")
		c.Sockets, c.Cores = 1, c.Threads
	}
}

// cpuList reads the kernel's list format, 0-3,8. Nonsense ends the list.
func cpuList(s string) []int {
	var out []int
	const most = 1 << 14 // more CPUs than any kernel is built for
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(high)
		}
		if err != nil || a < 0 || b < a || b > most {
			return out
		}
		for i := a; i <= b; i++ {
			out = append(out, i)
		}
	}
	return out
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
