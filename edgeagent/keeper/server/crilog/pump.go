package crilog

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// readBytes is how much is taken from a pipe at once.
	readBytes = 16 << 10
	// maxPartBytes is the longest text of one line in the log, as containerd has it; a longer line is split into parts.
	maxPartBytes = 16 << 10
)

// buffers are shared by all pumps, which hold one only while there is something to read.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer [readBytes]byte

func takeBuffer() *buffer {
	if b, ok := buffers.Get().(*buffer); ok {
		return b
	}
	return new(buffer)
}

// Source is the reading end of a pipe. Ready blocks until Read would not, so that a waiting pump holds no buffer.
type Source interface {
	io.Reader
	Ready() error
}

// Pump copies src to log as stream ("stdout" or "stderr") until src ends, whatever the disk does, and returns. A last line
// without an end is written as a part: readers then show what the program wrote, to the byte.
func Pump(log *File, stream string, src Source) {
	p := pump{log: log, stream: stream}
	for src.Ready() == nil {
		if !p.step(src) {
			break
		}
	}
	if len(p.rest) > 0 {
		p.log.write(appendLine(nil, time.Now(), stream, false, p.rest), 1, time.Now())
	}
}

type pump struct {
	log    *File
	stream string
	rest   []byte // the beginning of a line whose end has not come; usually empty
}

// step moves what can be read now; false at the end.
func (p *pump) step(src io.Reader) bool {
	in := takeBuffer()
	defer buffers.Put(in)
	n, err := src.Read(in[:])
	if n > 0 {
		now := time.Now()
		out, lines := p.format(in[:n], now)
		if lines > 0 {
			p.log.write(out, lines, now)
		}
	}
	return err == nil
}

// format returns the finished lines and parts in data, and keeps what is left.
func (p *pump) format(data []byte, now time.Time) (out []byte, lines int) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		room := maxPartBytes - len(p.rest)
		full := end >= 0 && end <= room
		if !full && len(data) < room {
			p.rest = append(p.rest, data...)
			return out, lines
		}
		taken := room
		if full {
			taken = end
		}
		out = appendLine(out, now, p.stream, full, append(p.rest, data[:taken]...))
		lines++
		p.rest = nil
		if full {
			taken++
		}
		data = data[taken:]
	}
	return out, lines
}
