package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func entry(n int, stream, tag, text string) string {
	return fmt.Sprintf("%s %s %s %s\n", t0.Add(time.Duration(n)*time.Second).Format(time.RFC3339Nano), stream, tag, text)
}

// sample makes a log of two instances, the present one in three files.
func sample(t *testing.T) *Folder {
	t.Helper()
	f := NewFolder(t.TempDir())
	must(t, f.Prepare("u1", "app", 2))
	put := func(name, text string) {
		must(t, os.WriteFile(filepath.Join(f.dir, "u1", "app", name), []byte(text), 0o600))
	}
	put("1.log", entry(0, "stdout", "F", "before"))
	put("2.log.2", entry(1, "stdout", "F", "one")+entry(2, "stderr", "F", "two"))
	put("2.log.1", entry(3, "stdout", "P", "thr")+entry(4, "stdout", "F", "ee")+"damaged by a power cut\n")
	put("2.log", entry(5, "stdout", "F", "")+entry(6, "stderr", "F", "five")+"2026-03-01T12:00:07Z stdout F cut")
	return f
}

func TestCopy(t *testing.T) {
	f := sample(t)
	all := Options{Tail: -1}
	change := func(fn func(*Options)) Options { o := all; fn(&o); return o }
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"all":        {all, "one\ntwo\nthree\n\nfive\n"},
		"previous":   {change(func(o *Options) { o.Previous = true }), "before\n"},
		"tail 1":     {change(func(o *Options) { o.Tail = 2 }), "five\n"}, // the second is the line being written
		"tail over":  {change(func(o *Options) { o.Tail = 5 }), "ee\n\nfive\n"},
		"tail none":  {change(func(o *Options) { o.Tail = 0 }), ""},
		"tail many":  {change(func(o *Options) { o.Tail = 99 }), "one\ntwo\nthree\n\nfive\n"},
		"since":      {change(func(o *Options) { o.Since = t0.Add(4 * time.Second) }), "ee\n\nfive\n"},
		"stderr":     {change(func(o *Options) { o.Stream = "stderr" }), "two\nfive\n"},
		"limit":      {change(func(o *Options) { o.LimitBytes = 6 }), "one\ntw"},
		"timestamps": {change(func(o *Options) { o.Timestamps, o.Since = true, t0.Add(3*time.Second) }), "2026-03-01T12:00:03Z three\n2026-03-01T12:00:05Z \n2026-03-01T12:00:06Z five\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			must(t, f.Copy(t.Context(), &out, Request{UID: "u1", Container: "app", Options: c.o}, nil))
			if out.String() != c.want {
				t.Errorf("got %q, want %q", out.String(), c.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoLog(t *testing.T) {
	f := sample(t)
	for name, r := range map[string]Request{
		"other pod":            {UID: "u2", Container: "app"},
		"other container":      {UID: "u1", Container: "web"},
		"way out":              {UID: "..", Container: "app"},
		"way out by a path":    {UID: "u1/../..", Container: "etc"},
		"no second last":       {UID: "u1", Container: "once", Options: Options{Previous: true}},
		"container of dots":    {UID: "u1", Container: ".."},
		"container of slash":   {UID: "u1", Container: "/etc"},
		"container of nul":     {UID: "u1", Container: "a\x00"},
		"container of nothing": {UID: "u1"},
	} {
		var out strings.Builder
		if err := f.Copy(t.Context(), &out, r, nil); err == nil || out.Len() > 0 {
			t.Errorf("%s: error %v, output %q", name, err, out.String())
		}
	}
	if err := NewFolder("/nonexistent").Copy(t.Context(), &strings.Builder{}, Request{UID: "u", Container: "c"}, nil); !errors.Is(err, ErrNoLog) {
		t.Errorf("no folder: %v", err)
	}
}

// TestSymlink: a link that a container's log folder should never hold leads nowhere.
func TestSymlink(t *testing.T) {
	f := sample(t)
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte(entry(1, "stdout", "F", "secret")), 0o600))
	must(t, f.Prepare("u1", "evil", 0))
	must(t, os.Symlink(outside, f.Path("u1", "evil", 0)))
	var out strings.Builder
	if err := f.Copy(t.Context(), &out, Request{UID: "u1", Container: "evil", Options: Options{Tail: -1}}, nil); err == nil || out.Len() > 0 {
		t.Errorf("error %v, output %q", err, out.String())
	}
}

// syncBuffer is a writer that a test may look at while it is written to.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestFollowOverRotationToTheEnd(t *testing.T) {
	f := sample(t)
	path := f.Path("u1", "app", 2)
	var ended atomic.Bool
	out := &syncBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- f.Copy(t.Context(), out, Request{UID: "u1", Container: "app", Options: Options{Follow: true, Tail: 2}}, ended.Load)
	}()
	waitFor(t, "the tail", func() bool { return out.String() == "five\n" })
	add(t, path, " off\n"+entry(8, "stdout", "F", "six"))
	waitFor(t, "the line that was cut and the next", func() bool { return out.String() == "five\ncut off\nsix\n" })
	must(t, os.Rename(path, path+".1"))
	add(t, path, entry(9, "stdout", "F", "seven"))
	waitFor(t, "the new file", func() bool { return strings.HasSuffix(out.String(), "six\nseven\n") })
	add(t, path, entry(10, "stdout", "F", "last words"))
	ended.Store(true)
	if err := <-done; err != nil || !strings.HasSuffix(out.String(), "seven\nlast words\n") {
		t.Errorf("%v, %q", err, out.String())
	}
}

func add(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Close()))
}

func TestFollowEndsWithTheReader(t *testing.T) {
	f := sample(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &syncBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- f.Copy(ctx, out, Request{UID: "u1", Container: "app", Options: Options{Follow: true, Tail: -1}}, func() bool { return false })
	}()
	waitFor(t, "the log", func() bool { return strings.HasSuffix(out.String(), "five\n") })
	cancel()
	must(t, <-done)
}

func TestPrepareAndRemove(t *testing.T) {
	f := sample(t)
	must(t, f.Prepare("u1", "app", 3))
	if _, err := os.Stat(f.Path("u1", "app", 1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("log of attempt 1 at attempt 3: %v", err)
	}
	if _, err := os.Stat(f.Path("u1", "app", 2)); err != nil {
		t.Error(err)
	}
	must(t, f.Remove("u1"))
	must(t, f.Remove("u1"))
	if err := f.Remove(".."); err == nil {
		t.Error("removed the parent folder")
	}
}

func TestParseRequest(t *testing.T) {
	r, err := ParseRequest(map[string]string{
		"uid": "u1", "container": "app", "follow": "true", "tailLines": "10", "sinceSeconds": "60", "limitBytes": "5",
	}, t0)
	if err != nil || !r.Follow || r.Tail != 10 || r.LimitBytes != 5 || !r.Since.Equal(t0.Add(-time.Minute)) {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = ParseRequest(map[string]string{"uid": "../u", "container": "", "follow": "perhaps", "tailLines": "-1", "sinceTime": "noon", "stream": "x"}, t0)
	for _, want := range []string{"pod uid", "container", "follow", "tailLines", "noon", "stream"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("2026-03-01T12:00:00Z stdout F hello"))
	f.Add([]byte("2026-03-01T12:00:00.123456789Z stderr P:x "))
	f.Add([]byte("2026-03-01T12:00:00Z stdout F"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLine(b)
		if err == nil && (l.Time.IsZero() && l.Stream == "" || len(l.Text) > len(b)) {
			t.Errorf("%q parsed to %+v", b, l)
		}
	})
}
