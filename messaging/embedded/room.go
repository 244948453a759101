package embedded

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// roomToStartAnew is how much must be free before a server that has given its store up ends, to be started anew.
const roomToStartAnew = 16 << 20

// roomInterval is how often such a server looks.
const roomInterval = time.Second

// A disk that has ampleBytes more than is asked for is not asked again for ampleTime: nothing fills it that fast.
const (
	ampleBytes = 1 << 30
	ampleTime  = 50 * time.Millisecond
)

// ample remembers when the disk had plenty of room.
type ample struct{ until atomic.Int64 }

func (a *ample) note(now time.Time)        { a.until.Store(now.Add(ampleTime).UnixNano()) }
func (a *ample) recent(now time.Time) bool { return now.UnixNano() < a.until.Load() }

// fault remembers that nats-server has given a stream up: after the first write that its disk refused it stores nothing
// more in that stream until it is started anew. It goes on reading.
type fault struct {
	once     sync.Once
	occurred chan struct{} // closed once err is there
	err      error
}

// line takes what the server logs as an error, which is the only place where it tells of this.
func (f *fault) line(format string, v []any) {
	if strings.Contains(format, "critical write error") {
		f.once.Do(func() {
			f.err = fmt.Errorf(format, v...)
			close(f.occurred)
		})
	}
}

// get is nil while all is well.
func (f *fault) get() error {
	select {
	case <-f.occurred:
		return f.err
	default:
		return nil
	}
}

// Room says whether so many bytes are free on the disk of the store folder, and whether the server still writes to it. The
// error tells people what to do.
func (s *Server) Room(bytes uint64) error {
	if err := s.fault.get(); err != nil {
		return fmt.Errorf("%w: free space on the disk of %s; once there are %d MiB the coordinator starts anew", err, s.folder, roomToStartAnew>>20)
	}
	if s.ample.recent(time.Now()) {
		return nil
	}
	free, err := freeBytes(s.folder)
	if err != nil {
		return err
	}
	if free >= bytes+ampleBytes {
		s.ample.note(time.Now())
	}
	if free < bytes {
		return fmt.Errorf("the disk of %s is full: %d MiB are left, and the last %d MiB are kept for what makes room: remove images (skerry image rm --remote) or other files", s.folder, free>>20, bytes>>20)
	}
	return nil
}

// awaitRoom returns an error when the server has given its store up and a new one would have room. It returns nil when ctx
// ends before.
func (s *Server) awaitRoom(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.fault.occurred:
	}
	tick := time.NewTicker(roomInterval)
	defer tick.Stop()
	for {
		if free, err := freeBytes(s.folder); err == nil && free >= roomToStartAnew {
			return fmt.Errorf("%w; there is room again: start anew", s.fault.err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func freeBytes(folder string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", folder, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
