// Package channels carries the numbered channels of a session in a container (exec, attach) over one byte stream. The
// numbers are those of Kubernetes' v5.channel.k8s.io, so that a coordinator only has to copy.
//
// A frame is channel (1 byte), length (4 bytes, big endian), payload. The package knows no process and no connection.
package channels

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Channels. Stdin, Resize and Close go towards the container, the others from it.
const (
	Stdin  byte = 0
	Stdout byte = 1
	Stderr byte = 2
	Status byte = 3   // one Exit in JSON, the last frame
	Resize byte = 4   // one Size in JSON
	Close  byte = 255 // the payload names a channel that nothing more will come on: Stdin
)

// MaxPayload is the largest payload of a frame in bytes. Writer splits what is longer.
const MaxPayload = 64 << 10

const header = 5

// ErrFrame means that what arrives is not a sequence of frames.
var ErrFrame = errors.New("not a session frame")

// Exit is how a session ended.
type Exit struct {
	Code  int    `json:"code"`            // exit code of the process
	Error string `json:"error,omitempty"` // why there is no exit code; Code means nothing then
}

// Size is a terminal's size in characters, named as in Kubernetes.
type Size struct {
	Width  uint16
	Height uint16
}

// Reader reads frames. It is for one goroutine.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next frame; the payload is valid until the next call. io.EOF at a frame's border is the orderly end.
func (r *Reader) Next() (channel byte, payload []byte, err error) {
	var h [header]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("%w: payload of %d bytes", ErrFrame, n)
	}
	if cap(r.buf) < int(n) {
		r.buf = make([]byte, n)
	}
	payload = r.buf[:n]
	if _, err := io.ReadFull(r.r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return h[0], payload, nil
}

// Writer writes frames, from any number of goroutines.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Send writes payload on a channel, in several frames if it is long. An empty payload is one empty frame.
func (w *Writer) Send(channel byte, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		n := min(len(payload), MaxPayload)
		if err := w.frame(channel, payload[:n]); err != nil {
			return err
		}
		if payload = payload[n:]; len(payload) == 0 {
			return nil
		}
	}
}

// frame writes in one piece: two writes would be two messages on the way.
func (w *Writer) frame(channel byte, payload []byte) error {
	b := make([]byte, header, header+len(payload))
	b[0] = channel
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload))) //nolint:gosec // at most MaxPayload
	_, err := w.w.Write(append(b, payload...))
	return err
}

// SendExit writes how the session ended.
func (w *Writer) SendExit(e Exit) error { return w.sendJSON(Status, e) }

// SendSize writes the terminal's size.
func (w *Writer) SendSize(s Size) error { return w.sendJSON(Resize, s) }

// SendClose says that nothing more will come on a channel.
func (w *Writer) SendClose(channel byte) error { return w.Send(Close, []byte{channel}) }

func (w *Writer) sendJSON(channel byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Send(channel, data)
}

// Channel is an io.Writer on one channel.
func (w *Writer) Channel(channel byte) io.Writer { return channelWriter{w, channel} }

type channelWriter struct {
	w       *Writer
	channel byte
}

func (c channelWriter) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := c.w.Send(c.channel, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
