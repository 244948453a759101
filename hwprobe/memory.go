package hwprobe

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"skerry.dev/skerry/api"
)

func (t tree) memory() api.Memory {
	info := meminfo(t.text("proc/meminfo"))
	return api.Memory{TotalBytes: info["MemTotal"], SwapBytes: info["SwapTotal"], HugePages: t.hugePages()}
}

// meminfo reads "Name:  123 kB" lines to bytes; lines without a unit keep their number. Keys may be prefixed "Node 0 ".
func meminfo(text string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || n < 0 {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" && n < 1<<52 {
			n <<= 10
		}
		words := strings.Fields(name)
		out[words[len(words)-1]] = n
	}
	return out
}

func (t tree) hugePages() []api.HugePage {
	const dir = "sys/kernel/mm/hugepages"
	var out []api.HugePage
	for _, name := range t.names(dir) {
		digits, ok := strings.CutSuffix(strings.TrimPrefix(name, "hugepages-"), "kB")
		size, err := strconv.ParseInt(digits, 10, 32)
		if !ok || err != nil || size <= 0 {
			continue
		}
		out = append(out, api.HugePage{
			SizeBytes: size << 10,
			Total:     int64(t.count(dir + "/" + name + "/nr_hugepages")),
			Free:      int64(t.count(dir + "/" + name + "/free_hugepages")),
		})
	}
	slices.SortFunc(out, func(a, b api.HugePage) int { return cmp.Compare(a.SizeBytes, b.SizeBytes) })
	return out
}

func (t tree) numa() []api.NUMA {
	const dir = "sys/devices/system/node"
	var out []api.NUMA
	for _, name := range t.names(dir) {
		id, ok := strings.CutPrefix(name, "node")
		if n, err := strconv.Atoi(id); ok && err == nil {
			out = append(out, api.NUMA{
				ID: n, CPUs: t.text(dir + "/" + name + "/cpulist"),
				MemoryBytes: meminfo(t.text(dir + "/" + name + "/meminfo"))["MemTotal"],
			})
		}
	}
	slices.SortFunc(out, func(a, b api.NUMA) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
