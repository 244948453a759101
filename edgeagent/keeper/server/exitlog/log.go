// Package exitlog is the keeper's append-only record of ended containers: a container's exit is on disk before anyone hears of it.
//
// Its neighbour is keeper/server. It knows files and sequence numbers; it must not know how containers end. The file is lines of checksum and JSON, bounded
// in size, one writer; a torn last line, the trace of a power cut, is cut at Open.
package exitlog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"skerry.dev/skerry/edgeagent/keeper"
)

const (
	fileName = "exits.log"
	tempName = "exits.log.new"
	// DefaultMaxBytes holds about 2,000 exits; a log at its bound is rewritten with its newer half.
	DefaultMaxBytes = 512 << 10
	// recentKept is how many exits are served from memory: more than an agent that follows the log is ever behind.
	recentKept = 64
)

// Log is one exit log. Safe for concurrent use.
type Log struct {
	disk     Disk
	maxBytes int64

	mu      sync.Mutex
	file    File
	size    int64 // where the next line goes; what lies beyond is not ours
	first   uint64
	last    uint64
	recent  []Record      // the newest, oldest first
	grown   chan struct{} // closed and replaced at each append
	skipped int
	renamed bool // a rename is not known to be durable yet
}

// Open reads the log in disk, or starts one. known, if not nil, is called with every record it holds. A torn tail is cut.
func Open(disk Disk, maxBytes int64, known func(Record)) (*Log, error) {
	l := &Log{disk: disk, maxBytes: maxBytes, grown: make(chan struct{})}
	file, err := disk.Open(fileName)
	if err != nil {
		return nil, fmt.Errorf("open exit log: %w", err)
	}
	l.file = file
	if err := l.load(known); err != nil {
		return nil, errors.Join(fmt.Errorf("read exit log: %w", err), file.Close())
	}
	return l, nil
}

func (l *Log) load(known func(Record)) error {
	data, err := contents(l.file)
	if err != nil {
		return err
	}
	l.size, l.skipped = scan(data, func(r Record, _ int64) {
		l.remember(r)
		if known != nil {
			known(r)
		}
	})
	if l.size < int64(len(data)) {
		if err := l.file.Truncate(l.size); err != nil {
			return err
		}
	}
	reserve(l.file, l.maxBytes)
	// The file may be new: its name must be as durable as what it will hold.
	return errors.Join(l.file.Sync(), l.disk.SyncDir())
}

// Skipped is how many unreadable lines Open found between good ones; a disk that rots. They are kept until the log is rewritten.
func (l *Log) Skipped() int { return l.skipped }

// Close closes the file. The disk stays the caller's.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Append gives r the next sequence number and puts it on disk. Then it calls durable, if not nil, with the numbered record, and only then
// does After see it. After an error nothing was recorded or announced and Append may be called again.
func (l *Log) Append(r Record, durable func(Record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Seq = l.last + 1
	line, err := encode(r)
	if err != nil {
		return err
	}
	if l.size+int64(len(line)) > l.maxBytes {
		if err := l.compact(); err != nil {
			return fmt.Errorf("rewrite exit log: %w", err)
		}
	}
	if err := l.settle(); err != nil {
		return fmt.Errorf("rewrite exit log: %w", err)
	}
	if err := l.write(line); err != nil {
		return fmt.Errorf("append exit of %s: %w", r.ID, err)
	}
	l.remember(r)
	if durable != nil {
		durable(r)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// write puts line at the end. After a failed write or sync, the kernel may hold anything, so the line is cut again and the next
// Append writes over it. A cut that fails is repaired the same way: size has not moved.
func (l *Log) write(line []byte) error {
	_, err := l.file.WriteAt(line, l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return errors.Join(err, l.file.Truncate(l.size))
	}
	l.size += int64(len(line))
	return nil
}

// compact replaces the file by one with the newer half of its lines. A crash leaves the old file or the new one.
func (l *Log) compact() error {
	data, err := contents(l.file)
	if err != nil {
		return err
	}
	kept, first := newer(data[:min(l.size, int64(len(data)))], l.maxBytes/2)
	next, err := l.disk.Open(tempName)
	if err != nil {
		return err
	}
	if err := fill(next, kept, l.maxBytes); err != nil {
		return errors.Join(err, next.Close())
	}
	if err := l.disk.Rename(tempName, fileName); err != nil {
		return errors.Join(err, next.Close())
	}
	old := l.file
	l.file, l.size, l.first, l.renamed = next, int64(len(kept)), first, true
	return old.Close()
}

// settle makes a rename durable. Until it has, a power cut could bring the old file back, without what was appended since.
func (l *Log) settle() error {
	if !l.renamed {
		return nil
	}
	if err := l.disk.SyncDir(); err != nil {
		return err
	}
	l.renamed = false
	return nil
}

func fill(f File, data []byte, room int64) error {
	if err := f.Truncate(0); err != nil { // a file left over from a crash
		return err
	}
	reserve(f, room)
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Sync()
}

// newer returns the last lines of data that fit into limit, good ones only, and the first sequence number among them (zero for none).
func newer(data []byte, limit int64) (kept []byte, first uint64) {
	end, _ := scan(data, func(Record, int64) {})
	_, _ = scan(data[:end], func(r Record, at int64) {
		if end-at > limit {
			return
		}
		if first == 0 {
			first = r.Seq
		}
		if line, err := encode(r); err == nil { // it was decoded a moment ago
			kept = append(kept, line...)
		}
	})
	return kept, first
}

func contents(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if size == 0 {
		return data, nil
	}
	_, err = f.ReadAt(data, 0)
	return data, err
}

func (l *Log) remember(r Record) {
	if l.first == 0 {
		l.first = r.Seq
	}
	l.last = r.Seq
	if len(l.recent) == recentKept {
		copy(l.recent, l.recent[1:])
		l.recent = l.recent[:recentKept-1]
	}
	l.recent = append(l.recent, r)
}

// After waits until the log holds exits beyond seq and returns them, oldest first, at least one. keeper.ErrTruncated: some of
// them are gone, or seq was never given out here. Zero means from the oldest kept.
func (l *Log) After(ctx context.Context, seq uint64) ([]keeper.Exit, error) {
	for {
		exits, grown, err := l.after(seq)
		if err != nil || len(exits) > 0 {
			return exits, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (l *Log) after(seq uint64) ([]keeper.Exit, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq > l.last || (seq != 0 && seq+1 < l.first) {
		return nil, nil, fmt.Errorf("exits after %d, log holds %d to %d: %w", seq, l.first, l.last, keeper.ErrTruncated)
	}
	if seq == l.last {
		return nil, l.grown, nil
	}
	if len(l.recent) > 0 && seq+1 >= l.recent[0].Seq {
		return beyond(l.recent, seq), nil, nil
	}
	exits, err := l.read(seq)
	return exits, nil, err
}

func (l *Log) read(seq uint64) ([]keeper.Exit, error) {
	data, err := contents(l.file)
	if err != nil {
		return nil, fmt.Errorf("read exit log: %w", err)
	}
	var exits []keeper.Exit
	_, _ = scan(data[:min(l.size, int64(len(data)))], func(r Record, _ int64) {
		if r.Seq > seq {
			exits = append(exits, r.Exit)
		}
	})
	if len(exits) == 0 { // the caller would wait for what is already there
		return nil, errors.New("read exit log: records that were written cannot be read back")
	}
	return exits, nil
}

func beyond(records []Record, seq uint64) []keeper.Exit {
	var exits []keeper.Exit
	for _, r := range records {
		if r.Seq > seq {
			exits = append(exits, r.Exit)
		}
	}
	return exits
}
