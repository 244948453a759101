package streaming

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func frame(length uint32, payload int) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = binary.BigEndian.AppendUint32(b, 1<<24|length)
	return append(b, make([]byte, payload)...)
}

func guardReader(r io.Reader) *guarded { return guard(nil, bufio.NewReader(r)) }

func TestGuard(t *testing.T) {
	good := bytes.Repeat(append(frame(5, 5), frame(0, 0)...), 3)
	for _, r := range []io.Reader{bytes.NewReader(good), iotest.OneByteReader(bytes.NewReader(good))} {
		got, err := io.ReadAll(guardReader(r))
		if err != nil || !bytes.Equal(got, good) {
			t.Errorf("%d bytes of %d, %v", len(got), len(good), err)
		}
	}
	got, err := io.ReadAll(guardReader(bytes.NewReader(append(good, frame(maxFrameBytes+1, 20)...))))
	if !errors.Is(err, errFrameSize) || len(got) != len(good) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// FuzzGuard: what passes is what came, up to a frame that is too large.
func FuzzGuard(f *testing.F) {
	f.Add(frame(5, 5), 3)
	f.Add(frame(maxFrameBytes+1, 5), 100)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		g, buf := guardReader(bytes.NewReader(data)), make([]byte, 1+min(max(size, 0), 1000))
		var got []byte
		for {
			n, err := g.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%x became %x", data, got)
		}
	})
}
