// Package wal is the file in which a node's reports wait until the coordinator has them.
//
// A record replaces an older one of the same key, so that a month without a link costs one record per pod and not one per
// change. Records without a key to replace (events) are bounded in number; the oldest give way. The file is rewritten
// when more than half of it is dead, and emptied when everything is delivered.
//
// A record is on disk, though not synced, when Put returns: it survives the death of the process. Sync makes it survive a
// power cut; callers ask for it only when delivery takes long, to spare flash.
package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// Bounds.
const (
	// MaxRecordBytes is the largest data of one record; the message bus carries no more.
	MaxRecordBytes = 4 << 20
	// MaxStream is how many records without replacement are kept.
	MaxStream = 512
	maxKey    = 1024
	// slack is how many dead bytes are tolerated before the file is rewritten.
	slack = 64 << 10
	// header is length and checksum; the body begins with sequence and key length.
	header = 8
	prefix = 11
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one report under way.
type Record struct {
	Seq  uint64
	Key  string // the subject it goes to
	Data []byte
	Keep bool // not replaced by later records of its key
}

// Log is an open write-ahead file. Its methods may be called concurrently.
type Log struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	size    int64 // of the file
	live    int64 // bytes of pending records
	dirty   bool  // written since the last sync
	latest  map[string]Record
	streams []Record // kept records, oldest first
	dropped uint64
}

// Open reads the file at path, or makes it. A torn tail, as a power cut leaves, is cut off.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open report log: %w", err)
	}
	l := &Log{path: path, file: f, latest: map[string]Record{}}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read report log %s: %w", path, err), f.Close())
	}
	return l, nil
}

func (l *Log) load() error {
	data, err := io.ReadAll(l.file)
	if err != nil {
		return err
	}
	for rest := data; len(rest) > 0; {
		r, n := parse(rest)
		if n == 0 {
			break
		}
		l.note(r)
		rest = rest[n:]
		l.size += int64(n)
	}
	if l.size < int64(len(data)) {
		if err := l.file.Truncate(l.size); err != nil {
			return err
		}
	}
	_, err = l.file.Seek(l.size, io.SeekStart)
	return err
}

// Put adds a record and returns it as it was stored. Sequence numbers are the caller's and must grow.
func (l *Log) Put(r Record) error {
	if len(r.Data) > MaxRecordBytes || len(r.Key) > maxKey {
		return fmt.Errorf("report %s: %d bytes, at most %d", r.Key, len(r.Data), MaxRecordBytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(r)
	if err := l.append(r); err != nil {
		return fmt.Errorf("write report log: %w", err)
	}
	return l.tidy()
}

// note takes a record into memory: a report that cannot be written can still be delivered.
func (l *Log) note(r Record) {
	if r.Keep {
		l.streams = append(l.streams, r)
		l.live += r.bytes()
		if len(l.streams) > MaxStream {
			l.live -= l.streams[0].bytes()
			l.streams = slices.Delete(l.streams, 0, 1)
			l.dropped++
		}
		return
	}
	if old, ok := l.latest[r.Key]; ok {
		l.live -= old.bytes()
	}
	l.latest[r.Key] = r
	l.live += r.bytes()
}

func (l *Log) append(r Record) error {
	n, err := l.file.Write(encode(r))
	if err != nil {
		// A part of a record would hide all that follow it.
		return errors.Join(err, l.file.Truncate(l.size), l.seekEnd())
	}
	l.size += int64(n)
	l.dirty = true
	return nil
}

func (l *Log) seekEnd() error {
	_, err := l.file.Seek(l.size, io.SeekStart)
	return err
}

// Pending returns what is not delivered, oldest first. The data must not be changed.
func (l *Log) Pending() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending()
}

func (l *Log) pending() []Record {
	out := slices.Clone(l.streams)
	for _, r := range l.latest {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// Dropped is how many kept records gave way since Open.
func (l *Log) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Done notes that a record was delivered. One that was replaced meanwhile stays replaced.
func (l *Log) Done(r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cur, ok := l.latest[r.Key]; ok && cur.Seq == r.Seq {
		delete(l.latest, r.Key)
		l.live -= cur.bytes()
	}
	l.streams = slices.DeleteFunc(l.streams, func(s Record) bool {
		if s.Seq == r.Seq {
			l.live -= s.bytes()
		}
		return s.Seq == r.Seq
	})
	return l.tidy()
}

// tidy empties or rewrites the file when that is worth it.
func (l *Log) tidy() error {
	switch {
	case l.size == 0:
		return nil
	case l.live == 0:
		l.size, l.dirty = 0, false
		return errors.Join(l.file.Truncate(0), l.seekEnd())
	case l.size > 2*l.live+slack:
		return l.rewrite()
	default:
		return nil
	}
}

func (l *Log) rewrite() error {
	temporary := l.path + ".tmp"
	var all []byte
	for _, r := range l.pending() {
		all = append(all, encode(r)...)
	}
	f, err := writeSynced(temporary, all)
	if err != nil {
		return fmt.Errorf("rewrite report log: %w", err)
	}
	if err := os.Rename(temporary, l.path); err != nil {
		return errors.Join(fmt.Errorf("rewrite report log: %w", err), f.Close())
	}
	old := l.file
	l.file, l.size, l.dirty = f, int64(len(all)), false
	return errors.Join(old.Close(), l.seekEnd())
}

func writeSynced(path string, data []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Sync makes what was put so far survive a power cut. Without news it does nothing.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty {
		return nil
	}
	l.dirty = false
	return l.file.Sync()
}

// Close closes the file. What is pending stays in it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

func (r Record) bytes() int64 { return int64(header + prefix + len(r.Key) + len(r.Data)) }

func encode(r Record) []byte {
	b := make([]byte, header, r.bytes())
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key))) //nolint:gosec // bounded by maxKey
	keep := byte(0)
	if r.Keep {
		keep = 1
	}
	b = append(b, keep)
	b = append(b, r.Key...)
	b = append(b, r.Data...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-header)) //nolint:gosec // bounded by MaxRecordBytes
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[header:], castagnoli))
	return b
}

// parse reads the first record of b and its length; zero when b does not begin with a whole one.
func parse(b []byte) (Record, int) {
	if len(b) < header+prefix {
		return Record{}, 0
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n < prefix || n > prefix+maxKey+MaxRecordBytes || n > int64(len(b)-header) {
		return Record{}, 0
	}
	body := b[header : header+int(n)]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return Record{}, 0
	}
	key := int(binary.BigEndian.Uint16(body[8:]))
	if prefix+key > len(body) {
		return Record{}, 0
	}
	return Record{
		Seq: binary.BigEndian.Uint64(body), Keep: body[10] == 1,
		Key: string(body[prefix : prefix+key]), Data: slices.Clone(body[prefix+key:]),
	}, header + int(n)
}
