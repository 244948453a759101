package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const (
	// queueLines and queueBytes bound what waits to be written: seconds of a busy server, and little of its memory.
	queueLines = 1024
	queueBytes = 4 << 20
	// sayEvery is how often the log says that lines are dropped, while they are.
	sayEvery = 10 * time.Second
)

// Options say what is kept, and where.
type Options struct {
	Level    auditv1.Level
	File     string // an absolute path; its folder is made
	MaxBytes int64  // of the file before it is rotated; must be positive
	Keep     int    // how many rotated files are kept: File.1 is the youngest. 0 keeps none
	Log      *slog.Logger
}

// Log writes events. Use New, and Run once.
type Log struct {
	Options
	queue   chan []byte // at most queueLines
	waiting atomic.Int64
	dropped atomic.Int64
}

// New checks the options. Nothing is opened yet.
func New(o Options) (*Log, error) {
	switch {
	case o.Level == auditv1.LevelNone:
	case !filepath.IsAbs(o.File):
		return nil, fmt.Errorf("audit log: file %q is not an absolute path", o.File)
	case o.MaxBytes <= 0 || o.Keep < 0:
		return nil, fmt.Errorf("audit log: cannot keep %d files of %d bytes", o.Keep, o.MaxBytes)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{Options: o, queue: make(chan []byte, queueLines)}, nil
}

// Level is how much is kept of a request at most. A nil Log keeps nothing.
func (l *Log) Level() auditv1.Level {
	if l == nil {
		return auditv1.LevelNone
	}
	return l.Options.Level
}

// Record has the event written, or drops it when too many wait. It never blocks, and may be called concurrently.
func (l *Log) Record(e *auditv1.Event) {
	text, err := line(e)
	if err != nil {
		l.dropped.Add(1)
		l.Log.Error("audit event not encoded", "id", string(e.AuditID), "err", err)
		return
	}
	text = append(text, '\n')
	if l.waiting.Add(int64(len(text))) > queueBytes {
		l.waiting.Add(-int64(len(text)))
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- text:
	default:
		l.waiting.Add(-int64(len(text)))
		l.dropped.Add(1)
	}
}

// Run writes until ctx ends, and then what still waits. A file that cannot be opened at the start is an error; later, lines
// that cannot be written count as dropped.
func (l *Log) Run(ctx context.Context) error {
	if l.Options.Level == auditv1.LevelNone {
		<-ctx.Done()
		return nil
	}
	f := &file{path: l.File, max: l.MaxBytes, keep: l.Keep}
	if err := f.open(); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	w := &writer{Log: l, file: f}
	for {
		select {
		case line := <-l.queue:
			w.write(line)
		case <-ctx.Done():
			return w.finish()
		}
	}
}

// writer is the goroutine that owns the file.
type writer struct {
	*Log
	file *file
	said time.Time // when the log last said that lines are dropped
	err  error     // why the last line could not be written
}

func (w *writer) write(line []byte) {
	w.waiting.Add(-int64(len(line)))
	if err := w.file.append(line); err != nil {
		w.dropped.Add(1)
		w.err = err
	}
	if len(w.queue) == 0 || time.Since(w.said) > sayEvery {
		w.say()
	}
}

// say tells how many events left no line, if any did, at most once in sayEvery.
func (w *writer) say() {
	if w.dropped.Load() == 0 || time.Since(w.said) < sayEvery {
		return
	}
	w.said = time.Now()
	w.Log.Log.Warn("audit events dropped", "count", w.dropped.Swap(0), "file", w.File, "err", w.err)
	w.err = nil
}

func (w *writer) finish() error {
	for len(w.queue) > 0 {
		w.write(<-w.queue)
	}
	w.said = time.Time{}
	w.say()
	if err := w.file.close(); err != nil {
		return errors.Join(fmt.Errorf("close audit log: %w", err), w.err)
	}
	return nil
}
