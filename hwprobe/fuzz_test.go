package hwprobe

import (
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/api"
)

// nonsense is what drivers and firmware have been seen to put into files, and worse.
var nonsense = []string{
	"", "\n", "\x00", "-1", "-22", "0", "1", "4294967295", "9223372036854775807", "18446744073709551615", "99999999999999999999999", "0x", "0xffffffff",
	"NaN", "1e309", "0-16383", "0-16383,0-16383,0-16383", "3-1", ",", "-", "\xff\xfe bad utf-8 \x80", "\x1b[31mred\x1b[0m", "a\nb\nc", "KEY=VALUE\nDEVNAME=../../etc/passwd",
	"Über groß \u202e", "processor\t: \nmodel name\t:\nflags\t\t: \n", "MemTotal: -5 kB\nMemTotal: 9223372036854775807 kB\nHugePages_Total:    18446744073709551615",
}

// check asserts what holds for a node of any machine, whatever its files say.
func check(t testing.TB, n node) {
	t.Helper()
	inv := n.Inventory
	data, err := json.Marshal(inv)
	if err != nil {
		t.Fatalf("inventory cannot be sent: %v", err)
	}
	var back api.Inventory
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(back); err != nil || string(again) != string(data) {
		t.Errorf("inventory changes on its way: %s", cmp.Diff(string(data), string(again)))
	}
	if c := inv.CPU; c.Threads < 0 || c.Threads > maxCPUs || c.Cores > c.Threads || c.Sockets > c.Threads || c.MaxMHz < 0 || c.CacheBytes < 0 {
		t.Errorf("impossible processors: %+v", c)
	}
	for _, d := range inv.Disks {
		if d.SizeBytes < 0 {
			t.Errorf("impossible disk: %+v", d)
		}
	}
	for _, l := range inv.Links {
		if l.SpeedMbps < 0 || l.MTU < 0 || l.Type == "" {
			t.Errorf("impossible link: %+v", l)
		}
	}
	for _, m := range inv.NUMA {
		if m.MemoryBytes < 0 {
			t.Errorf("impossible memory: %+v", m)
		}
	}
	for name, q := range n.Capacity {
		if q.Sign() < 0 {
			t.Errorf("capacity %s is %s", name, q.String())
		}
	}
	for key, value := range n.Labels {
		if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(problems) > 0 {
			t.Errorf("label %s=%s: %v", key, value, problems)
		}
	}
}

// TestNonsense puts nonsense into each file of each board, several kinds each.
func TestNonsense(t *testing.T) {
	for _, name := range boards(t) {
		board := readBoard(t, name)
		for i, path := range slices.Sorted(maps.Keys(board)) {
			if !board[path].Mode.IsRegular() {
				continue
			}
			for j, text := range nonsense {
				if (i+j)%24 != 0 { // the fuzzer tries the rest
					continue
				}
				spoilt := maps.Clone(board)
				spoilt[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
				check(t, probe(t, spoilt))
			}
			if t.Failed() {
				t.Fatalf("%s: %s", name, path)
			}
		}
	}
}

// FuzzProbe replaces one file of one board.
func FuzzProbe(f *testing.F) {
	names := boards(f)
	loaded := map[string]fstest.MapFS{}
	paths := map[string][]string{}
	for i, name := range names {
		board := readBoard(f, name)
		loaded[name] = board
		for _, path := range slices.Sorted(maps.Keys(board)) {
			if board[path].Mode.IsRegular() {
				paths[name] = append(paths[name], path)
			}
		}
		for j, text := range nonsense {
			f.Add(uint8(i), uint16(j*7), []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, board uint8, file uint16, data []byte) {
		name := names[int(board)%len(names)]
		spoilt := maps.Clone(loaded[name])
		spoilt[paths[name][int(file)%len(paths[name])]] = &fstest.MapFile{Data: data, Mode: fs.FileMode(0o444)}
		check(t, probe(t, spoilt))
	})
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("add@/devices/pci0000:00/0000:00:14.0/usb1/1-1\x00ACTION=add\x00"))
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Add([]byte("add@/devices/virtual/net/veth0\x00"))
	f.Fuzz(func(t *testing.T, message []byte) { aboutHardware(message) })
}
