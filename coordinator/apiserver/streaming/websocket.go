package streaming

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/messaging/channels"
)

// oldest is the first protocol of sessions, whose end says nothing but what went wrong, as a text.
const oldest = "channel.k8s.io"

// sessionProtocols are what clients may speak in a session over a websocket. Version 5 has the message that closes a
// channel, and is the same as version 4 otherwise.
var sessionProtocols = []string{"v5.channel.k8s.io", "v4.channel.k8s.io", oldest}

// pieceBytes is how much of a message is held at once.
const pieceBytes = 32 << 10

// writeBuffers are shared: an idle session needs none.
var writeBuffers sync.Pool

// upgradeWebsocket answers 101 and takes the connection over, with one of the offered subprotocols.
func upgradeWebsocket(w http.ResponseWriter, r *http.Request, offered ...string) (*websocket.Conn, error) {
	asked := websocket.Subprotocols(r)
	if !slices.ContainsFunc(asked, func(p string) bool { return slices.Contains(offered, p) }) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("none of the websocket subprotocols %q is served, only %q", asked, offered))
	}
	upgrader := websocket.Upgrader{
		Subprotocols: offered, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10, WriteBufferPool: &writeBuffers,
		Error:       func(http.ResponseWriter, *http.Request, int, error) {}, // our caller answers
		CheckOrigin: fromClient,
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	var refused websocket.HandshakeError
	switch {
	case errors.As(err, &refused):
		return nil, apierrors.NewBadRequest(refused.Error())
	case err != nil:
		return nil, fmt.Errorf("upgrade to a websocket: %w", err)
	}
	return conn, nil
}

// fromClient refuses what another site's page makes a browser send in its user's name, with a cookie or a certificate.
// Other programs may say what they like about their origin.
func fromClient(r *http.Request) bool {
	if r.Header.Get("Origin") == "" || !fromBrowser(r.Header) {
		return true
	}
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && strings.EqualFold(origin.Host, r.Host)
}

// fromBrowser: a page can set none of these headers, nor keep its browser from sending them. No page can send a token.
func fromBrowser(h http.Header) bool {
	if h.Get("Authorization") != "" {
		return false
	}
	return h.Get("Cookie") != "" || h.Get("Sec-Fetch-Site") != "" || strings.HasPrefix(h.Get("User-Agent"), "Mozilla/")
}

// socket is a client on a websocket. Each message is a channel's number and a payload.
type socket struct {
	conn *websocket.Conn
	out  []byte // for output only
}

func acceptWebsocket(w http.ResponseWriter, r *http.Request) (client, error) {
	conn, err := upgradeWebsocket(w, r, sessionProtocols...)
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn}, nil
}

// sign sends a pong that nobody asked for, which the protocol allows.
func (s *socket) sign() error { return s.conn.WriteControl(websocket.PongMessage, nil, time.Time{}) }

func (s *socket) input(w *channels.Writer) {
	buf := make([]byte, pieceBytes)
	for {
		_, message, err := s.conn.NextReader()
		if err != nil {
			return
		}
		if receive(w, message, buf) != nil {
			return
		}
	}
}

// receive passes a message on. Its error is the client's: when the node takes no more, the rest is read and dropped.
func receive(w *channels.Writer, message io.Reader, buf []byte) error {
	if _, err := io.ReadFull(message, buf[:1]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty message says nothing
		}
		return err
	}
	channel := buf[0]
	for {
		n, err := message.Read(buf)
		if n > 0 {
			passOn(w, channel, buf[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// passOn sends what may come from a client to the node.
func passOn(w *channels.Writer, channel byte, payload []byte) {
	switch channel {
	case channels.Stdin, channels.Resize:
		_ = w.Send(channel, payload) // the reader of the other direction learns of it
	case channels.Close:
		if payload[0] == channels.Stdin {
			_ = w.SendClose(channels.Stdin) // as above
		}
	}
}

func (s *socket) output(channel byte, payload []byte) error {
	s.out = append(append(s.out[:0], channel), payload...)
	return s.conn.WriteMessage(websocket.BinaryMessage, s.out)
}

func (s *socket) end(status *metav1.Status) {
	data, err := json.Marshal(status)
	switch {
	case s.conn.Subprotocol() == oldest && status.Status == metav1.StatusSuccess:
		data = nil
	case s.conn.Subprotocol() == oldest:
		data = []byte(status.Message)
	case err != nil:
		data = []byte(`{"status":"Failure","message":"the end of the session could not be told"}`)
	}
	if s.output(channels.Status, data) == nil {
		closing := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = s.conn.WriteControl(websocket.CloseMessage, closing, time.Time{}) // or the client sees the connection end
	}
}

func (s *socket) close() { _ = s.conn.Close() } // all was said
