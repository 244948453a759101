package hwprobe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/mem"
)

// Usage is how much of the machine is in use now.
type Usage struct {
	CPUMillis        int64 // thousandths of a core, mean since the call before; 0 at the first call
	MemoryBytes      int64 // total minus what the kernel could give out
	MemoryTotalBytes int64
	DiskBytes        int64 // of the file system that holds the meter's folder
	DiskTotalBytes   int64
}

// Meter reads live usage. It remembers the CPU times of the last reading and must not be used concurrently.
type Meter struct {
	folder string
	last   cpu.TimesStat
	at     time.Time
}

// NewMeter returns a meter; folder is the one whose file system is watched, the node's state folder.
func NewMeter(folder string) *Meter { return &Meter{folder: folder} }

// Read measures. It does not wait: CPU use is taken over the time since the last call.
func (m *Meter) Read(ctx context.Context, now time.Time) (Usage, error) {
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return Usage{}, fmt.Errorf("read memory use: %w", err)
	}
	storage, err := disk.UsageWithContext(ctx, m.folder)
	if err != nil {
		return Usage{}, fmt.Errorf("read disk use of %s: %w", m.folder, err)
	}
	times, err := cpuTimes(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		MemoryBytes:      int64(memory.Total - memory.Available), //nolint:gosec // memory of real machines fits
		MemoryTotalBytes: int64(memory.Total),                    //nolint:gosec // likewise
		DiskBytes:        int64(storage.Used),                    //nolint:gosec // likewise
		DiskTotalBytes:   int64(storage.Total),                   //nolint:gosec // likewise
	}
	if elapsed := now.Sub(m.at).Seconds(); !m.at.IsZero() && elapsed > 0 {
		u.CPUMillis = max(0, int64((busy(times)-busy(m.last))/elapsed*1000))
	}
	m.last, m.at = times, now
	return u, nil
}

// cpuTimes are those of all cores together.
func cpuTimes(ctx context.Context) (cpu.TimesStat, error) {
	times, err := cpu.TimesWithContext(ctx, false)
	if err == nil && len(times) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return cpu.TimesStat{}, fmt.Errorf("read cpu times: %w", err)
	}
	return times[0], nil
}

// busy is CPU seconds spent at work; guest time is counted within user already.
func busy(t cpu.TimesStat) float64 {
	return t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal
}

// Totals are the seconds that all cores together have worked since the machine started, and the memory in use as in Usage.
func Totals(ctx context.Context) (cpuSeconds float64, memoryBytes int64, err error) {
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("read memory use: %w", err)
	}
	times, err := cpuTimes(ctx)
	if err != nil {
		return 0, 0, err
	}
	return busy(times), int64(memory.Total - memory.Available), nil //nolint:gosec // memory of real machines fits
}
