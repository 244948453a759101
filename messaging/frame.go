package messaging

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A frame of a byte stream is one message: a type byte, a sequence number (4 bytes, big endian, from 1, wrapping), and a
// payload. Each direction counts all its frames, so that a lost one shows as a gap at the next.
const (
	frameData   frameType = 1 // payload: 1 to maxPayload bytes
	frameCredit frameType = 2 // payload: 4 bytes, by how much the receiver of this frame may send more
	frameEOF    frameType = 3 // no more data; the other direction stays open
	frameClose  frameType = 4 // no more data, and none is read any more
	frameReset  frameType = 5 // payload: why, for people
	framePing   frameType = 6 // we live
)

type frameType byte

const (
	frameHeader = 5
	maxPayload  = 64<<10 - frameHeader
	// frameCost is what a frame takes from the window besides its payload: many small frames need memory too.
	frameCost = 64
	// windowBytes is how much may be under way to a reader that does not read.
	windowBytes = 1 << 20
	// maxReason bounds the text of a reset.
	maxReason = 1 << 10
)

var errFrame = errors.New("malformed frame")

type frame struct {
	kind    frameType
	seq     uint32
	payload []byte
}

func (f frame) append(b []byte) []byte {
	b = append(b, byte(f.kind))
	b = binary.BigEndian.AppendUint32(b, f.seq)
	return append(b, f.payload...)
}

// parseFrame reads a frame; its payload is part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHeader || len(b) > frameHeader+maxPayload {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	f := frame{kind: frameType(b[0]), seq: binary.BigEndian.Uint32(b[1:]), payload: b[frameHeader:]}
	return f, f.check()
}

func (f frame) check() error {
	n, fits := len(f.payload), false
	switch f.kind {
	case frameData:
		fits = n > 0
	case frameCredit:
		fits = n == 4
	case frameEOF, frameClose, framePing:
		fits = n == 0
	case frameReset:
		fits = n <= maxReason
	}
	if !fits {
		return fmt.Errorf("%w: type %d with %d bytes", errFrame, f.kind, n)
	}
	return nil
}

func creditPayload(n int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(n)) //nolint:gosec // at most a window
}
