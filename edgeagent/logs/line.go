package logs

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Line is one entry of a log file.
type Line struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Partial bool   // the writer's line goes on in the next entry
	Text    []byte // without the line end; shares memory with what was parsed
}

// ErrFormat means that a line is not in CRI format.
var ErrFormat = errors.New("not a CRI log line")

// ParseLine reads one entry, given without its line end: RFC 3339 time, stream, tags, text.
func ParseLine(b []byte) (Line, error) {
	stamp, rest, ok1 := bytes.Cut(b, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 {
		return Line{}, fmt.Errorf("%w: %.60q", ErrFormat, b)
	}
	if !ok3 {
		tags, text = rest, nil // an empty line may have lost its trailing space
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, fmt.Errorf("%w: %.60q", ErrFormat, b)
	}
	l := Line{Time: at, Stream: string(stream), Text: text}
	if l.Stream != "stdout" && l.Stream != "stderr" {
		return Line{}, fmt.Errorf("%w: %.60q", ErrFormat, b)
	}
	switch tag, _, _ := bytes.Cut(tags, []byte{':'}); string(tag) {
	case "F":
	case "P":
		l.Partial = true
	default:
		return Line{}, fmt.Errorf("%w: %.60q", ErrFormat, b)
	}
	return l, nil
}
