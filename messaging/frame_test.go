package messaging

import (
	"bytes"
	"testing"
)

func TestFrame(t *testing.T) {
	for _, f := range []frame{
		{frameData, 1, []byte("x")},
		{frameData, 1 << 31, make([]byte, maxPayload)},
		{frameCredit, 7, creditPayload(windowBytes)},
		{frameEOF, 2, nil},
		{frameClose, 3, nil},
		{frameReset, 4, []byte("why")},
		{frameReset, 4, nil},
		{framePing, 5, nil},
	} {
		got, err := parseFrame(f.append(nil))
		if err != nil || got.kind != f.kind || got.seq != f.seq || !bytes.Equal(got.payload, f.payload) {
			t.Errorf("%v comes back as %v, error %v", f.kind, got.kind, err)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "cut header": {1, 0, 0, 0}, "unknown": {9, 0, 0, 0, 1}, "data without data": {1, 0, 0, 0, 1},
		"short credit": {2, 0, 0, 0, 1, 0}, "ping with data": {6, 0, 0, 0, 1, 0}, "too long": make([]byte, 64<<10+1),
		"long reason": frame{frameReset, 1, make([]byte, maxReason+1)}.append(nil),
	} {
		if f, err := parseFrame(b); err == nil {
			t.Errorf("%s: parses as %v", name, f)
		}
	}
}

// No frame of a peer may make a stream hold more than its window, hand on what is out of order, or panic.
func FuzzStreamReceive(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 'x'}, []byte{2, 0, 0, 0, 2, 0, 0, 0, 9}, []byte{3, 0, 0, 0, 3})
	f.Add([]byte{6, 0, 0, 0, 1}, []byte{5, 0, 0, 0, 1, 'n', 'o'}, []byte{1, 0, 0, 0, 4, 'x'})
	f.Add([]byte{4, 0, 0, 0, 1}, []byte{1, 0, 0, 0, 2, 'x'}, []byte(nil))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		conn := &streamConn{
			readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), credit: windowBytes,
		}
		var want []byte
		for i, raw := range [][]byte{a, b, c} {
			fr, err := parseFrame(raw)
			if err != nil {
				break
			}
			if conn.accept(fr) != nil {
				return // the stream is over
			}
			if conn.credit > windowBytes || conn.held > windowBytes {
				t.Fatalf("credit %d, holds %d", conn.credit, conn.held)
			}
			if int(fr.seq) != i+1 {
				t.Fatalf("frame %d accepted as number %d", fr.seq, i+1)
			}
			if fr.kind == frameData {
				want = append(want, fr.payload...)
			}
		}
		if got := bytes.Join(conn.chunks, nil); !bytes.Equal(got, want) {
			t.Fatalf("holds %q, want %q", got, want)
		}
	})
}

func TestSessionNames(t *testing.T) {
	for s, want := range map[string]bool{
		randomText(18): true, "": false, "short": false, "0123456789abcdef": true, "0123456789abcde.": false, "0123456789abcde>": false,
		"0123456789abcde*": false, "0123456789abcde ": false,
	} {
		if isSession(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
}
