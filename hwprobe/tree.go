package hwprobe

import (
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
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
	return strings.TrimSpace(strings.Trim(string(data), "\x00"))
}

func (t tree) number(name string) int64 {
	n, err := strconv.ParseInt(t.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// hex reads 0x1af4 and 1af4 alike and returns its digits, lower case; empty when there are none.
func (t tree) hex(name string) string {
	return strings.ToLower(strings.TrimPrefix(t.text(name), "0x"))
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
