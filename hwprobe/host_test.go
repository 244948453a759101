package hwprobe

import (
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"

	"skerry.dev/skerry/api"
)

// TestHost compares what we read with what others read of the same machine.
func TestHost(t *testing.T) {
	inv, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	if threads, err := cpu.Counts(true); err != nil || inv.CPU.Threads != threads || inv.CPU.Threads < runtime.NumCPU() {
		t.Errorf("%d threads, gopsutil says %d (%v), the scheduler %d", inv.CPU.Threads, threads, err, runtime.NumCPU())
	}
	if cores, err := cpu.Counts(false); err != nil || inv.CPU.Cores != cores {
		t.Errorf("%d cores, gopsutil says %d (%v)", inv.CPU.Cores, cores, err)
	}
	if memory, err := mem.VirtualMemory(); err != nil || inv.Memory.TotalBytes != int64(memory.Total) || inv.Memory.SwapBytes != int64(memory.SwapTotal) {
		t.Errorf("memory %d and swap %d, gopsutil says %+v (%v)", inv.Memory.TotalBytes, inv.Memory.SwapBytes, memory, err)
	}
	if release, err := host.KernelVersion(); err != nil || inv.Kernel.Version != release {
		t.Errorf("kernel %q, uname says %q (%v)", inv.Kernel.Version, release, err)
	}
	if inv.Kernel.Architecture != runtime.GOARCH {
		t.Errorf("architecture %q, we are built for %q", inv.Kernel.Architecture, runtime.GOARCH)
	}
	if at := slices.IndexFunc(inv.Links, func(l api.Link) bool { return l.Name == "lo" }); at < 0 || inv.Links[at].Type != "loopback" ||
		!slices.Contains(inv.Links[at].Addresses, "127.0.0.1/8") {
		t.Errorf("no loopback with its address among %+v", inv.Links)
	}
	for _, m := range inv.Mounts {
		if info, err := os.Stat(m.Path); err == nil && info.IsDir() && m.SizeBytes <= 0 {
			t.Errorf("mount without a size: %+v", m)
		}
	}
	check(t, node{Labels(inv), Capacity(inv, 1<<35, 110), inv})
}

func TestHostLinks(t *testing.T) {
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range links {
		at := slices.IndexFunc(inv.Links, func(l api.Link) bool { return l.Name == want.Name })
		if at < 0 {
			if _, err := net.InterfaceByName(want.Name); err == nil { // else it has gone meanwhile: other tests make links
				t.Errorf("link %s was not found", want.Name)
			}
			continue
		}
		if got := inv.Links[at]; got.MTU != want.MTU || len(want.HardwareAddr) > 0 && got.MAC != want.HardwareAddr.String() {
			t.Errorf("link is %+v, want %+v", got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	folder := t.TempDir()
	m := NewMeter(folder)
	start := time.Now()
	first, err := m.Read(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	if first.CPUMillis != 0 || first.MemoryBytes <= 0 || first.MemoryBytes > first.MemoryTotalBytes || first.DiskBytes < 0 || first.DiskBytes > first.DiskTotalBytes {
		t.Errorf("impossible first reading: %+v", first)
	}
	work(t)
	second, err := m.Read(t.Context(), start.Add(time.Since(start)))
	if err != nil {
		t.Fatal(err)
	}
	if second.CPUMillis <= 0 {
		t.Errorf("we worked all the time and used %d thousandths of a core", second.CPUMillis)
	}
	if back, err := m.Read(t.Context(), start.Add(-time.Hour)); err != nil || back.CPUMillis != 0 {
		t.Errorf("a clock that was set back gives %+v, %v", back, err)
	}
	if _, err := NewMeter(folder+"/missing").Read(t.Context(), start); err == nil {
		t.Error("a missing folder has a disk")
	}
}

// work uses the CPU until the kernel has counted some of it.
func work(t *testing.T) {
	t.Helper()
	before, err := cpu.Times(false)
	if err != nil {
		t.Fatal(err)
	}
	for {
		for range 1_000_000 {
			_ = time.Now()
		}
		after, err := cpu.Times(false)
		if err != nil {
			t.Fatal(err)
		}
		if busy(after[0]) > busy(before[0])+0.05 {
			return
		}
	}
}
