package hwprobe

import (
	"io"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// tree reads small kernel files. A missing or unreadable one is empty: boards differ in what they have, and a driver may
// answer a read with an I/O error.
type tree struct{ fsys fs.FS }

// fileLimit bounds what is read of one file; the longest we read is /proc/cpuinfo of a large server.
const fileLimit = 4 << 20

func (t tree) text(name string) string {
	f, err := t.fsys.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileLimit))
	if err != nil {
		return ""
	}
	return strings.Trim(strings.Map(printable, strings.ToValidUTF8(string(data), "")), "\x00 \t\n")
}

// printable drops what firmware leaves in names and serial numbers and what no terminal should be sent. NUL stays: it
// parts the strings of a device tree.
func printable(r rune) rune {
	if r == 0 || r == '\n' || r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return -1
}

// integer is false when there is no number.
func (t tree) integer(name string) (int64, bool) {
	n, err := strconv.ParseInt(t.text(name), 10, 64)
	return n, err == nil
}

// number reads one that cannot be negative; what makes no sense is zero.
func (t tree) number(name string) int64 {
	n, _ := t.integer(name)
	return max(0, n)
}

// count reads a number that fits 31 bits; others are zero, for drivers say 4294967295 when they mean "unknown".
func (t tree) count(name string) int {
	n := t.number(name)
	if n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

// hex reads 0x1af4 and 1af4 alike and returns its digits, lower case; empty when it is no such number.
func (t tree) hex(name string) string {
	digits := strings.ToLower(strings.TrimPrefix(t.text(name), "0x"))
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return digits
}

func (t tree) exists(name string) bool {
	_, err := fs.Stat(t.fsys, name)
	return err == nil
}

// names lists a folder, sorted; a missing one is empty.
func (t tree) names(folder string) []string {
	entries, err := fs.ReadDir(t.fsys, folder)
	if err != nil {
		return nil
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// linkName is the last element of where a symbolic link points: the driver, the subsystem. Empty when it is none.
func (t tree) linkName(name string) string {
	target, err := fs.ReadLink(t.fsys, name)
	if err != nil {
		return ""
	}
	return path.Base(target)
}

// link is where a symbolic link points, as it stands. Empty when it is none.
func (t tree) link(name string) string {
	target, err := fs.ReadLink(t.fsys, name)
	if err != nil {
		return ""
	}
	return target
}

// pairs reads "KEY=value" lines.
func (t tree) pairs(name string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(t.text(name)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[key] = strings.Trim(value, `"`)
		}
	}
	return out
}
