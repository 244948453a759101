package messaging

import (
	"io"
	"net"
	"sync"
)

// Join carries bytes between two connections, each way until its end, which is passed on, and closes both. It returns when
// both ways have ended; a way that breaks ends the other.
func Join(a, b net.Conn) {
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(a, b) })
	ways.Go(func() { oneWay(b, a) })
	ways.Wait()
	_ = a.Close() // all that was read is written
	_ = b.Close()
}

// oneWay copies until the end and passes the end on. When it cannot, both directions end.
func oneWay(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
}
