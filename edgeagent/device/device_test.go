package device

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/api"
)

var machine = api.Inventory{
	Devices: []api.Device{
		{Class: "serial", Name: "ttyS0", Path: "/dev/ttyS0", Label: "serial8250", Console: true},
		{Class: "serial", Name: "ttyS1", Path: "/dev/ttyS1", Label: "serial8250"},
		{Class: "serial", Name: "ttyUSB0", Path: "/dev/ttyUSB0", Label: "ftdi_sio", USB: "1-1"},
		{Class: "serial", Name: "ttyACM0", Path: "/dev/ttyACM0", Label: "cdc_acm", USB: "1-2"},
		{Class: "video", Name: "video0", Path: "/dev/video0", Label: "Camera"},
		{Class: "watchdog", Name: "watchdog0", Path: "/dev/watchdog0"},
	},
	USB: []api.USB{
		{Path: "1-1", Class: "ff", Vendor: "0403", Product: "6001", Serial: "A1", Node: "/dev/bus/usb/001/002", Driver: "ftdi_sio"},
		{Path: "1-2", Class: "02", Vendor: "1546", Product: "01a8", Node: "/dev/bus/usb/001/003", Driver: "cdc_acm"},
		{Path: "1-3", Class: "ff", Vendor: "1a6e", Product: "089a", Node: "/dev/bus/usb/001/004"},
		{Path: "1-4", Class: "03", Vendor: "046d", Product: "c31c", Node: "/dev/bus/usb/001/005", Driver: "usbhid"},
		{Path: "1-5", Class: "09", Vendor: "2109", Product: "3431", Node: "/dev/bus/usb/001/006", Driver: "hub"},
	},
}

func TestSort(t *testing.T) {
	for name, c := range map[string]struct {
		rules []string
		kinds []string
		files map[string][]string
		want  string
	}{
		"without rules": {kinds: DefaultKinds, want: "usb-1a6e-089a:/dev/bus/usb/001/004 serial:/dev/ttyACM0 serial:/dev/ttyS1 serial:/dev/ttyUSB0 video:/dev/video0"},
		"nothing":       {},
		"a rule takes it out of its kind": {
			rules: []string{"gps usb=1546:01a8"}, kinds: []string{"serial"}, want: "gps:/dev/ttyACM0 serial:/dev/ttyS1 serial:/dev/ttyUSB0",
		},
		"the first rule decides":         {rules: []string{"a path=/dev/tty* serial=A1", "b path=/dev/ttyUSB?", "c kind=video label=Cam*"}, want: "a:/dev/ttyUSB0 c:/dev/video0"},
		"the console for who wants it":   {rules: []string{"console path=/dev/ttyS0"}, want: "console:/dev/ttyS0"},
		"a USB device that has a driver": {rules: []string{"keys usb=046d:*"}, want: "keys:/dev/bus/usb/001/005"},
		"a file":                         {rules: []string{"fpga path=/dev/xdma*"}, files: map[string][]string{"/dev/xdma0": {"/dev/xdma0"}}, want: "fpga:/dev/xdma0"},
		"a link is no second device": {
			rules: []string{"meter path=/dev/serial/by-id/*"}, kinds: []string{"serial"},
			files: map[string][]string{"/dev/ttyUSB0": {"/dev/serial/by-id/usb-FTDI"}}, want: "serial:/dev/ttyACM0 serial:/dev/ttyS1 meter:/dev/ttyUSB0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := ParseRules(c.rules)
			must(t, err)
			devices, inv := Sort(Settings{Rules: rules, Kinds: c.kinds}, machine, c.files)
			var got []string
			offered := 0
			for _, d := range devices {
				got = append(got, d.Class+":"+d.Path)
			}
			for _, d := range inv.Devices {
				if d.Resource != "" {
					offered++
				}
			}
			if strings.Join(got, " ") != c.want || offered != len(devices) {
				t.Errorf("got  %s (%d in the inventory)\nwant %s", strings.Join(got, " "), offered, c.want)
			}
		})
	}
	if machine.Devices[0].Resource != "" {
		t.Error("the caller's inventory was changed")
	}
}

func TestRulesRefused(t *testing.T) {
	for line, want := range map[string]string{
		"gps": "at least one pattern", "GPS path=/dev/x": "class", "a path": "is none of", "a colour=red": "is none of",
		"a path=dev/x": "not a clean absolute path", "a path=/dev/../x": "not a clean absolute path", "a usb=[": "syntax error",
	} {
		if _, err := ParseRules([]string{line}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v does not say %q", line, err, want)
		}
	}
	if err := ValidateKinds([]string{"serial", "toaster"}); err == nil || !strings.Contains(err.Error(), `"toaster"`) {
		t.Errorf("kinds: %v", err)
	}
}

var start = time.Unix(1000, 0)

func two() []Device {
	return []Device{{"/dev/a x", "serial", "/dev/a"}, {"/dev/b", "serial", "/dev/b"}, {"/dev/v", "video", "/dev/v"}}
}

// TestLedger: one device has one owner, who keeps it when the ledger is opened again, and until it gives it back.
func TestLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.json")
	l, err := Open(file)
	must(t, err)
	if _, err := l.Claim("u1", "c", map[string]int64{"serial": 1}); !errors.Is(err, ErrNotYet) {
		t.Errorf("before the first look: %v", err)
	}
	l.Set(two(), start)
	first := claim(t, l, "u1", "c", 1)
	second := claim(t, l, "u2", "c", 1)
	if first != "/dev/a" || second != "/dev/b" {
		t.Errorf("%s and %s", first, second)
	}
	l, err = Open(file)
	must(t, err)
	l.Set(two(), start)
	if again := claim(t, l, "u1", "c", 1); again != first {
		t.Errorf("after a restart %s, before %s", again, first)
	}
	if _, err := l.Claim("u3", "c", map[string]int64{"serial": 1, "video": 1}); !errors.Is(err, ErrNotYet) || errors.Is(err, ErrTooFew) {
		t.Errorf("all taken: %v", err)
	}
	if _, err := l.Claim("u1", "other", map[string]int64{"serial": 1}); !errors.Is(err, ErrNotYet) {
		t.Errorf("another container of the pod: %v", err)
	}
	_, err = l.Claim("u3", "c", map[string]int64{"serial": 3})
	if !errors.Is(err, ErrTooFew) || err.Error() != "Allocate failed due to requested number of devices unavailable for skerry.dev/serial. Requested: 3, Available: 2, which is unexpected" {
		t.Errorf("too many: %v", err)
	}
	if owners := strings.Join(l.Owners(), " "); owners != "u1 u2" {
		t.Errorf("owners: %s", owners)
	}
	must(t, l.Release("u1"))
	must(t, l.Release("u1"))
	if third := claim(t, l, "u3", "c", 1); third != first {
		t.Errorf("the freed one is not given: %s", third)
	}
	if l.Counts()["serial"] != 2 || l.Counts()["video"] != 1 {
		t.Errorf("counts: %v", l.Counts())
	}
}

// TestLost: a device that is away for a moment is not, another one in its place is.
func TestLost(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "devices.json"))
	must(t, err)
	l.Set(two(), start)
	claim(t, l, "u1", "c", 1)
	l.Set(two()[1:], start)
	if lost, more := l.Lost(start.Add(patience - 1)); len(lost) != 0 || !more {
		t.Errorf("lost at once: %v %v", lost, more)
	}
	l.Set(two(), start.Add(time.Second))
	l.Set(append(two()[1:], Device{"/dev/a y", "serial", "/dev/a"}), start.Add(2*time.Second))
	if lost, _ := l.Lost(start.Add(patience)); len(lost) != 0 {
		t.Errorf("the time away does not begin anew: %v", lost)
	}
	lost, _ := l.Lost(start.Add(2*time.Second + patience))
	if diff := cmp.Diff([]Claim{{UID: "u1", Container: "c", Class: "serial", ID: "/dev/a x", Path: "/dev/a"}}, lost); diff != "" {
		t.Error(diff)
	}
}

// TestExclusive: whatever is claimed, released and unplugged in whatever order, nobody shares a device or has too many, and
// what is on the disk is what is in memory.
func TestExclusive(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		file := filepath.Join(t.TempDir(), "devices.json")
		l, err := Open(file)
		must(t, err)
		for range 60 {
			uid := "u" + strconv.Itoa(r.IntN(5))
			switch r.IntN(5) {
			case 0:
				must(t, l.Release(uid))
			case 1:
				var there []Device
				for i := range 6 {
					if r.IntN(3) > 0 {
						there = append(there, Device{"d" + strconv.Itoa(i), []string{"serial", "video"}[i%2], "/dev/" + strconv.Itoa(i)})
					}
				}
				l.Set(there, start)
			case 2:
				l, err = Open(file)
				must(t, err)
			default:
				wants := map[string]int64{"serial": r.Int64N(3), "video": r.Int64N(2)}
				if got, err := l.Claim(uid, "c", wants); err == nil && int64(len(got)) < wants["serial"]+wants["video"] {
					t.Fatalf("seed %d: %d of %v", seed, len(got), wants)
				}
			}
			owner := map[string]string{}
			for _, c := range l.claims {
				if had, taken := owner[c.ID]; taken {
					t.Fatalf("seed %d: %s belongs to %s and %s", seed, c.ID, had, c.UID)
				}
				owner[c.ID] = c.UID
			}
			reopened, err := Open(file)
			must(t, err)
			if diff := cmp.Diff(l.claims, reopened.claims); diff != "" && len(l.claims)+len(reopened.claims) > 0 {
				t.Fatalf("seed %d: disk and memory differ:\n%s", seed, diff)
			}
		}
	}
}

// TestFullDisk: a claim that cannot be written is none, and the one of before stays.
func TestFullDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.json")
	l, err := Open(file)
	must(t, err)
	l.Set(two(), start)
	claim(t, l, "u1", "c", 1)
	must(t, os.Mkdir(file+".new", 0o700)) // nothing can be written there
	if _, err := l.Claim("u2", "c", map[string]int64{"serial": 1}); err == nil {
		t.Error("a claim that is on no disk was given")
	}
	if err := l.Release("u1"); err == nil || strings.Join(l.Owners(), " ") != "u1" {
		t.Errorf("released without a trace: %v, owners %v", err, l.Owners())
	}
	must(t, os.Remove(file+".new"))
	must(t, l.Release("u1"))
	if reopened, err := Open(file); err != nil || len(reopened.Owners()) != 0 {
		t.Errorf("%v, %v", reopened, err)
	}
}

func TestDamagedLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.json")
	must(t, os.WriteFile(file, []byte("[{"), 0o600))
	if _, err := Open(file); err == nil {
		t.Error("a damaged file was taken for an empty one: devices would be given twice")
	}
}

func claim(t *testing.T, l *Ledger, uid, container string, n int64) string {
	t.Helper()
	got, err := l.Claim(uid, container, map[string]int64{"serial": n})
	must(t, err)
	var paths []string
	for _, c := range got {
		paths = append(paths, c.Path)
	}
	return strings.Join(paths, ",")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
