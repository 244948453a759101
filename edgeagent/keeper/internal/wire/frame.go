// Package wire is the packet protocol between the agent and the keeper: one JSON frame per SEQPACKET packet,
// file descriptors beside it (SCM_RIGHTS), one request at a time per connection.
//
// Its neighbours are keeper (the client) and keeper/server. It knows framing, bounds and descriptors; it must not know
// what a container is. Everything that arrives is untrusted until Decode has returned.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol version. A client and a keeper of different versions refuse each other in the handshake: bodies are read strictly, so
// whatever changes in one, or in what a keeper does, is another version.
const Version = 2

// Bounds of one packet.
const (
	// MaxFrameBytes bounds one packet; it is below the send buffer both sides ask for.
	MaxFrameBytes = 256 << 10
	// MaxFiles is the most descriptors one packet may carry.
	MaxFiles = 4
	// maxOpBytes bounds the name of an operation.
	maxOpBytes = 32
)

// Operations a client may ask for. A reply carries the operation it answers.
const (
	OpHello    = "hello"
	OpCreate   = "create"
	OpStart    = "start"
	OpKill     = "kill"
	OpDelete   = "delete"
	OpList     = "list"
	OpExec     = "exec"
	OpStream   = "execstream"
	OpAttach   = "attach"
	OpResize   = "resize"
	OpStats    = "stats"
	OpExits    = "exits"
	OpDeadline = "deadline"
	OpCleanAll = "cleanall"
)

// Codes of a refused request. The empty code means success.
const (
	CodeInvalid     = "invalid"
	CodeNotFound    = "notfound"
	CodeExists      = "exists"
	CodeConflict    = "conflict"
	CodeUnsupported = "unsupported"
	CodeNoCommand   = "nocommand"
	CodeTruncated   = "truncated"
	CodeVersion     = "version"
	CodeInternal    = "internal"
)

// Frame is one packet. More says that another frame of the same reply follows.
type Frame struct {
	Op    string          `json:"op"`
	Code  string          `json:"code,omitempty"`
	Error string          `json:"error,omitempty"`
	More  bool            `json:"more,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Hello opens a connection, in both directions. It is the one body that both sides read without minding what else is in it.
type Hello struct {
	Version int    `json:"version"`
	Boot    string `json:"boot,omitempty"`
	Release string `json:"release,omitempty"` // of the keeper, for people
}

// Target names a container.
type Target struct {
	ID string `json:"id"`
}

// Signal asks for a signal to be sent.
type Signal struct {
	ID     string `json:"id"`
	Number int    `json:"number"`
	All    bool   `json:"all,omitempty"`
}

// Since asks for exits with a sequence number greater than Seq.
type Since struct {
	Seq uint64 `json:"seq"`
}

// IDs names containers; an empty list means all.
type IDs struct {
	IDs []string `json:"ids,omitempty"`
}

// Deadline asks to kill a container at a boot-time instant. Zero removes the deadline.
type Deadline struct {
	ID              string `json:"id"`
	BoottimeNanosec int64  `json:"boottimeNs"`
}

// Exec asks for a process in a container. Spec is the client's exec spec; Has says which of the three standard streams come along, in
// order, as descriptors.
type Exec struct {
	ID   string          `json:"id"`
	Spec json.RawMessage `json:"spec"`
	Has  [3]bool         `json:"has"`
}

// Attach asks for a container's own streams. Has is as in Exec.
type Attach struct {
	ID  string  `json:"id"`
	Has [3]bool `json:"has"`
}

// Resize tells a container's terminal its size in characters.
type Resize struct {
	ID     string `json:"id"`
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Started is the first reply to a streamed exec and to an attach, which has no process of its own.
type Started struct {
	PID int `json:"pid,omitempty"`
}

// ErrUnheard means that the peer went without having read the last packet.
var ErrUnheard = errors.New("peer went before it read this")

// ErrTooLarge is returned for a packet beyond MaxFrameBytes.
var ErrTooLarge = errors.New("frame too large")

// Encode makes a packet of op with the given body; nil means no body.
func Encode(f Frame, body any) ([]byte, error) {
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", f.Op, err)
		}
		f.Body = raw
	}
	packet, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Op, err)
	}
	if len(packet) > MaxFrameBytes {
		return nil, fmt.Errorf("encode %s: %d bytes: %w", f.Op, len(packet), ErrTooLarge)
	}
	return packet, nil
}

// Decode reads one packet. It refuses unknown fields, trailing bytes, a missing or overlong operation and oversize packets.
func Decode(packet []byte) (Frame, error) {
	if len(packet) > MaxFrameBytes {
		return Frame{}, ErrTooLarge
	}
	var f Frame
	if err := strict(packet, &f); err != nil {
		return Frame{}, fmt.Errorf("decode frame: %w", err)
	}
	if f.Op == "" || len(f.Op) > maxOpBytes {
		return Frame{}, fmt.Errorf("decode frame: operation of %d bytes, want 1 to %d", len(f.Op), maxOpBytes)
	}
	return f, nil
}

// DecodeBody reads the body of f into v as strictly as Decode. A missing body is an error.
func DecodeBody(f Frame, v any) error {
	if len(f.Body) == 0 {
		return fmt.Errorf("decode body of %s: missing", f.Op)
	}
	if err := strict(f.Body, v); err != nil {
		return fmt.Errorf("decode body of %s: %w", f.Op, err)
	}
	return nil
}

// DecodeHello reads the body of the frame that opens a connection, whatever the version of who wrote it.
func DecodeHello(f Frame) (Hello, error) {
	var h Hello
	if err := json.Unmarshal(f.Body, &h); err != nil {
		return h, fmt.Errorf("decode body of %s: %w", f.Op, err)
	}
	return h, nil
}

func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the value")
	}
	return nil
}
