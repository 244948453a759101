package channels

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	long := bytes.Repeat([]byte("x"), MaxPayload+10)
	for _, err := range []error{
		w.Send(Stdout, []byte("hello")), w.Send(Stderr, long), w.Send(Stdin, nil), w.SendClose(Stdin),
		w.SendSize(Size{80, 24}), w.SendExit(Exit{Code: 3}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.Channel(Stdout).Write([]byte("io")); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	r := NewReader(&b)
	for _, want := range []struct {
		channel byte
		payload string
	}{
		{Stdout, "hello"},
		{Stderr, string(long[:MaxPayload])},
		{Stderr, "xxxxxxxxxx"},
		{Stdin, ""},
		{Close, "\x00"},
		{Resize, `{"Width":80,"Height":24}`},
		{Status, `{"code":3}`},
		{Stdout, "io"},
	} {
		channel, payload, err := r.Next()
		if err != nil || channel != want.channel || string(payload) != want.payload {
			t.Fatalf("channel %d, %.20q, %v; want channel %d, %.20q", channel, payload, err, want.channel, want.payload)
		}
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, rest := NewReader(bytes.NewReader(data)), len(data)
		for {
			_, payload, err := r.Next()
			if err != nil {
				return
			}
			if rest -= header + len(payload); rest < 0 {
				t.Fatal("more was read than there is")
			}
		}
	})
}
