package streaming

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// logProtocol is a log in binary messages.
const logProtocol = "binary.k8s.io"

// WantsSocket reports whether the client asks for a websocket.
func WantsSocket(r *http.Request) bool { return wants(r, "websocket") }

// Log upgrades the request and sends what in yields, until in or the client ends. Log returns an error when the request
// cannot be upgraded and nothing was answered.
func Log(w http.ResponseWriter, r *http.Request, in io.ReadCloser) error {
	conn, err := upgradeWebsocket(w, r, logProtocol)
	if err != nil {
		return err
	}
	defer conn.Close() // all was said
	gone := make(chan struct{})
	go func() { // ends with the connection
		defer close(gone)
		for err := error(nil); err == nil; _, _, err = conn.NextReader() {
		}
		_ = in.Close() // nobody is left to see more
	}()
	send(conn, in)
	linger := time.AfterFunc(lingerTime, func() { _ = conn.Close() })
	defer linger.Stop()
	<-gone
	return nil
}

func send(conn *websocket.Conn, in io.Reader) {
	buf := make([]byte, pieceBytes)
	for {
		n, err := in.Read(buf)
		if n > 0 && conn.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
			return
		}
		if err == nil {
			continue
		}
		code := websocket.CloseNormalClosure
		if !errors.Is(err, io.EOF) {
			code = websocket.CloseInternalServerErr
		}
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Time{}) // or the client has gone
		return
	}
}
