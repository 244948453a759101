package start

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"skerry.dev/skerry/tests/bench/section"
)

// crowd is how many containers the keeper holds while its memory is read.
const crowd = 100

// usage is what a process takes of memory, in bytes.
type usage struct{ rss, private int64 }

// memory reads the keeper's memory with a crowd of containers and after it.
func (k *ours) memory(ctx context.Context, rootfs string) (string, error) {
	table := section.NewTable("keeper", "RSS", "private (dirty)")
	table.Row("just started", section.Bytes(k.fresh.rss), section.Bytes(k.fresh.private))
	var ids []string
	for i := range crowd {
		id := fmt.Sprintf("m%d-%d", os.Getpid(), i)
		ids = append(ids, id)
		spec := k.spec(id, rootfs)
		spec.Args = append(spec.Args, "stay")
		if err := k.client.Create(ctx, spec); err != nil {
			return "", err
		}
		if err := k.client.Start(ctx, id); err != nil {
			return "", err
		}
	}
	if _, err := k.client.Stats(ctx); err != nil { // opens what an agent's first look at the load opens
		return "", err
	}
	time.Sleep(2 * quiet)
	with, err := usageOf(k.pid)
	if err != nil {
		return "", err
	}
	table.Row(fmt.Sprintf("with %d running containers", crowd), section.Bytes(with.rss), section.Bytes(with.private))
	if err := k.client.CleanAll(ctx); err != nil {
		return "", err
	}
	for range ids {
		<-k.exits
	}
	return table.String(), nil
}

// quiet is how long the keeper waits after a start before it gives memory back.
const quiet = 5 * time.Second

func usageOf(pid int) (usage, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, err
	}
	var u usage
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return usage{}, err
		}
		switch f[0] {
		case "Rss:":
			u.rss = kb << 10
		case "Private_Dirty:":
			u.private = kb << 10
		}
	}
	return u, nil
}
