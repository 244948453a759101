package streaming

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// tunnel is a websocket as a stream of bytes: the borders of messages mean nothing.
type tunnel struct {
	*websocket.Conn
	message io.Reader // nil between messages
	writing sync.Mutex
}

// Read implements net.Conn. It is for one goroutine.
func (t *tunnel) Read(b []byte) (int, error) {
	for {
		if t.message == nil {
			_, m, err := t.NextReader()
			if err != nil {
				return 0, tunnelEnd(err)
			}
			t.message = m
		}
		n, err := t.message.Read(b)
		if errors.Is(err, io.EOF) {
			t.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func tunnelEnd(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// Write implements net.Conn.
func (t *tunnel) Write(b []byte) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if err := t.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// SetDeadline implements net.Conn.
func (t *tunnel) SetDeadline(at time.Time) error { return t.NetConn().SetDeadline(at) }
