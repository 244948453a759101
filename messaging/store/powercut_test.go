package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file system in an image, whose power can be cut: whatever was not synced by then is gone.
type disk struct {
	t            *testing.T
	image, mount string
}

// newDisk makes an ext4, which is what most nodes and servers have. It needs root and a loop device.
func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root: run make test as root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4: install e2fsprogs")
	}
	folder := t.TempDir()
	d := &disk{t: t, image: filepath.Join(folder, "image"), mount: filepath.Join(folder, "disk")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 256<<20), os.Mkdir(d.mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", d.image)
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.mount).CombinedOutput(); err != nil {
		t.Skipf("no loop device to mount an image with: %v: %s", err, out)
	}
	t.Cleanup(func() { d.run("umount", d.mount) })
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// cutPower stops the file system where it is: nothing that is in memory, neither data nor journal, goes to the disk any
// more.
func cutPower(mount string) error {
	const shutdown, withoutJournal = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, withoutJournal); err != nil {
		return fmt.Errorf("cut the power: %w", err)
	}
	return nil
}

// restore mounts the disk again, as a machine does that starts anew: the journal is replayed, and memory is empty.
func (d *disk) restore() {
	d.t.Helper()
	stages, err := filepath.Glob(filepath.Join(d.mount, "nats/jetstream/*/streams/*/batches"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.run("umount", d.mount)
	d.run("mount", "-o", "loop", d.image, d.mount)
	for _, link := range stages {
		if target, err := os.Readlink(link); err == nil && filepath.Dir(target) == "/dev/shm" {
			if err := os.RemoveAll(target); err != nil {
				d.t.Fatal(err)
			}
		}
	}
}

// The power is cut at any moment while many write and one watches: what was acknowledged is there, and what a watch was told
// of; nothing is there by half, nothing twice, and each at its revision.
func TestPowerCutLosesNothing(t *testing.T) {
	d := newDisk(t)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	random, all := rand.New(rand.NewPCG(seed, 0)), newSaid()
	t.Logf("seed %d", seed)
	folder := filepath.Join(d.mount, "nats")
	for range 6 {
		lines, pause := 100+random.IntN(1500), time.Duration(random.IntN(3000))*time.Microsecond
		killAfter(t, folder, lines, all, func(p *os.Process) error {
			time.Sleep(pause) // lines come when a round has ended: this ends the next one anywhere
			return errors.Join(cutPower(d.mount), p.Kill())
		})
		d.restore()
		all.compare(t, folder)
	}
	for range 4 { // and right when a watch hears of changes
		heard := strconv.Itoa(1 + random.IntN(300))
		if n := listen(t, all, func(*exec.Cmd, int) {}, crashFolder+"="+folder, crashCut+"="+heard); n == 0 {
			t.Fatal("the process said nothing")
		}
		d.restore()
		all.compare(t, folder)
	}
	t.Logf("%d objects acknowledged, %d revisions told, %d lines", len(all.acknowledged), len(all.heard), all.lines)
	if len(all.heard) == 0 {
		t.Error("no watch was told of anything")
	}
}
