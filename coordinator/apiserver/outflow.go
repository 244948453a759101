package apiserver

import (
	"errors"
	"fmt"
	"net/http"
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
	return &outflow{w: w, flow: http.NewResponseController(w), limit: s.StreamLimit}
}

// send passes a piece on at once; an empty one sends the headers. Its error is an errGone.
func (o *outflow) send(piece []byte) error {
	err := o.deadline(time.Now().Add(o.limit))
	if err == nil {
		_, err = o.w.Write(piece)
	}
	if err == nil {
		err = o.flow.Flush()
	}
	if err == nil {
		err = o.deadline(time.Time{}) // while there is nothing to send, no deadline may run
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// deadline sets the deadline of writes, where the writer has one.
func (o *outflow) deadline(at time.Time) error {
	err := o.flow.SetWriteDeadline(at)
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
