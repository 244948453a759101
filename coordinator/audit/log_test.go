package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/access"
)

func newLog(t *testing.T, o Options) *Log {
	t.Helper()
	if o.File == "" {
		o.File = filepath.Join(t.TempDir(), "audit", "audit.log")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	o.Level = auditv1.LevelMetadata
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func event(i int) *auditv1.Event {
	return &auditv1.Event{AuditID: types.UID(fmt.Sprintf("event-%04d", i))}
}

// drain runs the log as one that is told to stop at once: it writes what waits.
func drain(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, path string) (out []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		_, rest, ok := strings.Cut(line, `"auditID":"`)
		if !ok || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("%s holds %q", path, line)
		}
		id, _, _ := strings.Cut(rest, `"`)
		out = append(out, id)
	}
	return out
}

// Files are rotated by size, and no line is lost, split, or in two of them.
func TestRotation(t *testing.T) {
	l := newLog(t, Options{MaxBytes: 1000, Keep: 2})
	for i := range 30 {
		l.Record(event(i))
		if i%7 == 0 {
			drain(t, l) // a restart goes on in the same file
		}
	}
	drain(t, l)
	var all []string
	for _, suffix := range []string{".2", ".1", ""} {
		info, err := os.Stat(l.File + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1000 || info.Mode().Perm() != 0o600 {
			t.Errorf("audit.log%s: %d bytes, mode %s", suffix, info.Size(), info.Mode())
		}
		all = append(all, ids(t, l.File+suffix)...)
	}
	for i, id := range all {
		if want := fmt.Sprintf("event-%04d", 30-len(all)+i); id != want {
			t.Fatalf("line %d is of %s, want %s: %v", i, id, want, all)
		}
	}
	if _, err := os.Stat(l.File + ".3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one file too many: %v", err)
	}
}

// A rotation that was cut short leaves a gap; the next one closes it and loses nothing.
func TestRotationWithAGap(t *testing.T) {
	l := newLog(t, Options{MaxBytes: 1, Keep: 3})
	for i := range 4 {
		l.Record(event(i))
	}
	drain(t, l)                                                 // .3 .2 .1 and the file
	if err := os.Rename(l.File+".3", l.File+".2"); err != nil { // .3 is missing: event-0000 lies in .2
		t.Fatal(err)
	}
	l.Record(event(4))
	drain(t, l)
	for suffix, want := range map[string]string{".3": "event-0000", ".2": "event-0002", ".1": "event-0003", "": "event-0004"} {
		if got := ids(t, l.File+suffix); len(got) != 1 || got[0] != want {
			t.Errorf("audit.log%s holds %v, want %s", suffix, got, want)
		}
	}
}

func TestNothingIsKept(t *testing.T) {
	l := newLog(t, Options{MaxBytes: 1})
	l.Record(event(0))
	l.Record(event(1))
	drain(t, l)
	if got := ids(t, l.File); len(got) != 1 || got[0] != "event-0001" {
		t.Errorf("holds %v", got)
	}
}

// What a power cut left of a line does not spoil the next one, and a file that others could read is closed to them.
func TestHalfALine(t *testing.T) {
	l := newLog(t, Options{})
	l.Record(event(0))
	drain(t, l)
	f, err := os.OpenFile(l.File, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"auditID":"half` + strings.Repeat("x", 10000))
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		t.Fatal(err)
	}
	l.Record(event(1))
	drain(t, l)
	if got := ids(t, l.File); len(got) != 2 || got[1] != "event-0001" {
		t.Errorf("holds %v", got)
	}
	if info, err := os.Stat(l.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// Nobody waits for a full queue: what does not fit is dropped, and the log says how many.
func TestFullQueue(t *testing.T) {
	var said strings.Builder
	l := newLog(t, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	for i := range queueLines + 7 { // nobody writes: a Record that waited would hang
		l.Record(event(i))
	}
	drain(t, l)
	if got := ids(t, l.File); len(got) != queueLines || got[queueLines-1] != fmt.Sprintf("event-%04d", queueLines-1) {
		t.Errorf("%d lines, want %d", len(got), queueLines)
	}
	if text := said.String(); !strings.Contains(text, `msg="audit events dropped" count=7`) {
		t.Errorf("the log says %q", text)
	}

	big := event(0)
	big.UserAgent = strings.Repeat("x", queueBytes/2)
	for range 3 {
		l.Record(big)
	}
	if len(l.queue) != 1 {
		t.Errorf("%d lines of %d bytes wait", len(l.queue), queueBytes/2)
	}
	drain(t, l)
	if l.waiting.Load() != 0 || l.dropped.Load() != 0 {
		t.Errorf("%d bytes wait, %d dropped", l.waiting.Load(), l.dropped.Load())
	}
}

// A disk without room costs lines and nothing else.
func TestUnwritableFile(t *testing.T) {
	var said strings.Builder
	l := newLog(t, Options{Log: slog.New(slog.NewTextHandler(&said, nil)), MaxBytes: 1, Keep: 1})
	if err := os.MkdirAll(filepath.Join(l.File+".1", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.Record(event(0))
	l.Record(event(1)) // cannot be rotated
	drain(t, l)
	if got := ids(t, l.File); len(got) != 1 || !strings.Contains(said.String(), "count=1") || !strings.Contains(said.String(), "audit.log.1") {
		t.Errorf("holds %v; the log says %q", got, said.String())
	}
	if err := os.RemoveAll(l.File + ".1"); err != nil {
		t.Fatal(err)
	}
	l.Record(event(2))
	drain(t, l)
	if got := ids(t, l.File); len(got) != 1 || got[0] != "event-0002" {
		t.Errorf("holds %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"relative": {Level: auditv1.LevelMetadata, File: "x", MaxBytes: 1},
		"no size":  {Level: auditv1.LevelMetadata, File: "/x"},
		"negative": {Level: auditv1.LevelMetadata, File: "/x", MaxBytes: 1, Keep: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLevelOf(t *testing.T) {
	for _, tt := range []struct {
		a             access.Attributes
		metadata, req auditv1.Level
	}{
		{access.Attributes{Verb: "create", Resource: "pods"}, auditv1.LevelMetadata, auditv1.LevelRequest},
		{access.Attributes{Verb: "list", Resource: "pods"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
		{access.Attributes{Verb: "patch", Resource: "secrets"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
		{access.Attributes{Verb: "update", Resource: "configmaps"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
		{access.Attributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
		{access.Attributes{Verb: "create", Resource: "serviceaccounts"}, auditv1.LevelMetadata, auditv1.LevelRequest},
		{access.Attributes{Verb: "create", Resource: "tokenreviews"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
		{access.Attributes{Verb: "create", Resource: "events"}, auditv1.LevelNone, auditv1.LevelNone},
		{access.Attributes{Verb: "get", Path: "/apis"}, auditv1.LevelNone, auditv1.LevelNone},
		{access.Attributes{Verb: "post", Path: "/skerry/v1/certificates"}, auditv1.LevelMetadata, auditv1.LevelMetadata},
	} {
		if m, r := LevelOf(auditv1.LevelMetadata, tt.a), LevelOf(auditv1.LevelRequest, tt.a); m != tt.metadata || r != tt.req {
			t.Errorf("%+v: %s, %s", tt.a, m, r)
		}
		if got := LevelOf(auditv1.LevelNone, tt.a); got != auditv1.LevelNone {
			t.Errorf("%+v: %s without a log", tt.a, got)
		}
	}
}
