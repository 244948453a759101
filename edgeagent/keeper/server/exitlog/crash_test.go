package exitlog

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"testing"

	"skerry.dev/skerry/edgeagent/keeper"
)

var errDisk = errors.New("disk failed")

// cutDisk is a disk in memory with what a power cut would leave of it. The operation number failAt fails, and with forGood all after it; half of
// what a failing write was given still arrives. After a power cut the durable content is all there is.
type cutDisk struct {
	failAt, ops int
	forGood     bool
	names       map[string]*cutFile // as programs see it
	durable     map[string]*cutFile // the folder as it was last synced
}

type cutFile struct {
	disk         *cutDisk
	now, durable []byte
}

func newCutDisk() *cutDisk {
	return &cutDisk{failAt: math.MaxInt, names: make(map[string]*cutFile), durable: make(map[string]*cutFile)}
}

func (d *cutDisk) fails() bool {
	d.ops++
	op := d.ops - 1
	return op == d.failAt || (d.forGood && op > d.failAt)
}

func (d *cutDisk) Open(name string) (File, error) {
	if d.fails() {
		return nil, errDisk
	}
	if d.names[name] == nil {
		d.names[name] = &cutFile{disk: d}
	}
	return d.names[name], nil
}

func (d *cutDisk) Rename(from, to string) error {
	if d.fails() {
		return errDisk
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *cutDisk) SyncDir() error {
	if d.fails() {
		return errDisk
	}
	d.durable = maps.Clone(d.names)
	return nil
}

func (d *cutDisk) Close() error { return nil }

// after is the disk as the next boot finds it: with a power cut only what was synced, and half of what was not when torn is set.
func (d *cutDisk) after(powerCut, torn bool) *cutDisk {
	next := newCutDisk()
	names := d.names
	if powerCut {
		names = d.durable
	}
	for name, f := range names {
		data := f.now
		if powerCut {
			data = f.durable
			if torn && len(f.now) > len(data) {
				data = append(append([]byte(nil), data...), f.now[len(data):len(data)+(len(f.now)-len(data))/2]...)
			}
		}
		kept := append([]byte(nil), data...)
		next.names[name] = &cutFile{disk: next, now: kept, durable: append([]byte(nil), kept...)}
		next.durable[name] = next.names[name]
	}
	return next
}

func (f *cutFile) ReadAt(p []byte, at int64) (int, error) {
	if f.disk.fails() {
		return 0, errDisk
	}
	n := copy(p, f.now[min(at, int64(len(f.now))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *cutFile) WriteAt(p []byte, at int64) (int, error) {
	fails := f.disk.fails()
	if fails {
		p = p[:len(p)/2]
	}
	if need := int(at) + len(p); need > len(f.now) {
		f.now = append(f.now, make([]byte, need-len(f.now))...)
	}
	copy(f.now[at:], p)
	if fails {
		return len(p), errDisk
	}
	return len(p), nil
}

func (f *cutFile) Sync() error {
	if f.disk.fails() {
		return errDisk
	}
	f.durable = append([]byte(nil), f.now...)
	return nil
}

func (f *cutFile) Truncate(size int64) error {
	if f.disk.fails() {
		return errDisk
	}
	f.now = append([]byte(nil), f.now[:min(size, int64(len(f.now)))]...)
	return nil
}

func (f *cutFile) Size() (int64, error) { return int64(len(f.now)), nil }
func (f *cutFile) Close() error         { return nil }

// smallLog makes rewrites frequent.
const smallLog = 2 << 10

// life opens a log on disk and appends n exits, retrying each once; it returns the numbers of those that were announced.
func life(disk Disk, n int) (announced []uint64) {
	l, err := Open(disk, smallLog, nil)
	if err != nil {
		return nil
	}
	for i := range n {
		r := Record{Exit: keeper.Exit{ID: fmt.Sprint("c", i), Code: i}, Instance: fmt.Sprint(i)}
		note := func(r Record) { announced = append(announced, r.Seq) }
		if err := l.Append(r, note); err != nil {
			_ = l.Append(r, note) // as the keeper does, until it works
		}
	}
	return announced
}

// TestEveryOperationFails fails each file operation in turn, ends the process or the power there, and opens the log again: every
// announced exit is there, numbers grow without a gap, and the next number is new.
func TestEveryOperationFails(t *testing.T) {
	const exits = 30
	whole := newCutDisk()
	if got := life(whole, exits); len(got) != exits {
		t.Fatalf("undisturbed: %d of %d announced", len(got), exits)
	}
	for failAt := range whole.ops {
		for _, end := range []struct{ forGood, powerCut, torn bool }{
			{false, false, false}, {false, true, false}, {false, true, true}, {true, false, false}, {true, true, false}, {true, true, true},
		} {
			t.Run(fmt.Sprintf("%d/%v", failAt, end), func(t *testing.T) {
				disk := newCutDisk()
				disk.failAt, disk.forGood = failAt, end.forGood
				announced := life(disk, exits)
				checkReopened(t, disk.after(end.powerCut, end.torn), announced)
			})
		}
	}
}

func checkReopened(t *testing.T, disk Disk, announced []uint64) {
	t.Helper()
	var seen []uint64
	l, err := Open(disk, smallLog, func(r Record) { seen = append(seen, r.Seq) })
	if err != nil {
		t.Fatal(err)
	}
	if l.Skipped() != 0 {
		t.Errorf("%d unreadable records between good ones", l.Skipped())
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] != seen[i-1]+1 {
			t.Fatalf("numbers have a gap: %v", seen)
		}
	}
	var newest, last uint64
	if len(announced) > 0 {
		newest = announced[len(announced)-1]
	}
	if len(seen) > 0 {
		last = seen[len(seen)-1]
	}
	if last < newest {
		t.Fatalf("announced up to %d, found up to %d", newest, last)
	}
	err = l.Append(Record{Exit: keeper.Exit{ID: "next"}}, func(r Record) {
		if r.Seq != last+1 {
			t.Errorf("next number is %d after %d", r.Seq, last)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
