package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// errGone says that the client does not take what is sent.
var errGone = errors.New("client is gone")

// outflow sends an answer that has no end in sight, piece by piece. A client that does not take a piece in time is
// dropped: what it has missed it must ask for again anyway.
type outflow struct {
	w     http.ResponseWriter
	flow  *http.ResponseController
	limit time.Duration // for one piece
}

func (s *Server) outflow(w http.ResponseWriter) *outflow {
	o := &outflow{w: w, flow: http.NewResponseController(w), limit: s.StreamLimit}
	setWriteDeadline(w, time.Time{}) // while there is nothing to send, no deadline may run
	return o
}

// send passes a piece on at once; an empty one sends the headers. Its error is an errGone.
func (o *outflow) send(piece []byte) error {
	disarm := o.arm()
	_, err := o.w.Write(piece)
	if err == nil {
		err = o.flow.Flush()
	}
	if late := disarm(); err == nil && late {
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// arm ends what is being written when its time is up. The writer's own deadline would do the same, but with HTTP/2 it is
// set and lifted by the connection's goroutine, which costs more than the writing. The returned function must be called
// before the handler ends; it reports whether time was up.
func (o *outflow) arm() (disarm func() (late bool)) {
	fired := make(chan struct{})
	timer := time.AfterFunc(o.limit, func() {
		setWriteDeadline(o.w, time.Now())
		close(fired)
	})
	return func() bool {
		if timer.Stop() {
			return false
		}
		<-fired
		return true
	}
}
