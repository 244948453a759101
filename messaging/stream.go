package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrStreamReset means that a byte stream broke: a frame was lost, the peer vanished, or it broke the protocol.
var ErrStreamReset = errors.New("stream reset")

// RefusedError is why the other side did not open a stream.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "stream refused: " + e.Reason }

// OpenParams says which stream to open, and with whom.
type OpenParams struct {
	// RequestSubject is CommandSubject(node, "open"), or NodeAPISubject(node, "dial") from the node.
	RequestSubject string
	Node           string // whose stream subjects to use
	Kind           string // OpenRequest.Kind
	Params         map[string]string
	// Sign signs the request; nil from a node, which its permissions identify.
	Sign *Signer
}

// Side says which end of a stream we are.
type Side int

// The two ends: the node writes "out" and reads "in", the coordinator the other way round.
const (
	NodeSide Side = iota + 1
	CoordinatorSide
)

// openTime bounds the opening of a stream by a context without a deadline.
const openTime = 15 * time.Second

// OpenStream opens a byte stream. The connection has a CloseWrite method, loses nothing without a Read or Write that fails
// with ErrStreamReset, and notices within about half a minute that the other side is gone. A refusal is a *RefusedError;
// nats.ErrNoResponders in the chain means that the other side is not connected.
func OpenStream(ctx context.Context, nc *nats.Conn, p OpenParams) (net.Conn, error) {
	ctx, cancel := withDeadline(ctx, openTime)
	defer cancel()
	side := CoordinatorSide
	if strings.HasPrefix(p.RequestSubject, root+"api.") {
		side = NodeSide
	}
	req := OpenRequest{Session: randomText(18), Kind: p.Kind, Params: p.Params, Expires: time.Now().Add(time.Minute)}
	c, err := newStreamConn(nc, p.Node, req.Session, side)
	if err != nil {
		return nil, fmt.Errorf("open %s stream with %s: %w", p.Kind, p.Node, err)
	}
	if err := requestOpen(ctx, nc, p, req); err != nil {
		c.reset("opening was given up", true)
		return nil, fmt.Errorf("open %s stream with %s: %w", p.Kind, p.Node, err)
	}
	go c.keepAlive() // ends with the stream
	return c, nil
}

func withDeadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

func requestOpen(ctx context.Context, nc *nats.Conn, p OpenParams, req OpenRequest) error {
	msg := nats.NewMsg(p.RequestSubject)
	var err error
	if msg.Data, err = json.Marshal(req); err != nil {
		return err
	}
	if p.Sign != nil {
		signature, err := p.Sign.Sign(p.RequestSubject, msg.Data)
		if err != nil {
			return err
		}
		msg.Header.Set(SignatureHeader, signature)
	}
	answer, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return err
	}
	var reply OpenReply
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if reply.Error != "" {
		return &RefusedError{Reason: reply.Error}
	}
	return nil
}

// AcceptStream answers msg, which holds req, with yes and returns our end of the stream, as OpenStream does. node is whose
// stream subjects to use.
func AcceptStream(nc *nats.Conn, msg *nats.Msg, req OpenRequest, node string, side Side) (net.Conn, error) {
	c, err := newStreamConn(nc, node, req.Session, side)
	if err != nil {
		return nil, fmt.Errorf("accept %s stream: %w", req.Kind, err)
	}
	if err := answerOpen(msg, OpenReply{}); err != nil {
		c.reset("the answer could not be sent", true)
		return nil, fmt.Errorf("accept %s stream: %w", req.Kind, err)
	}
	go c.keepAlive() // ends with the stream
	return c, nil
}

// RefuseStream answers msg, which holds an OpenRequest, with a reason that the other side's user will read.
func RefuseStream(msg *nats.Msg, reason string) error {
	if reason == "" {
		reason = "no reason given" // empty means yes
	}
	if err := answerOpen(msg, OpenReply{Error: reason}); err != nil {
		return fmt.Errorf("refuse stream: %w", err)
	}
	return nil
}

func answerOpen(msg *nats.Msg, reply OpenReply) error {
	data, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	return msg.Respond(data)
}

// ParseOpenRequest reads an OpenRequest from msg. With a publicKey it must be signed by it, for the subject it came on;
// a node must ask for that, for other nodes can aim messages at it. Expires is not looked at: clocks differ.
func ParseOpenRequest(msg *nats.Msg, publicKey string) (OpenRequest, error) {
	if publicKey != "" {
		if err := Verify(publicKey, msg.Subject, msg.Data, msg.Header.Get(SignatureHeader)); err != nil {
			return OpenRequest{}, fmt.Errorf("open request: %w", err)
		}
	}
	var req OpenRequest
	if err := json.Unmarshal(msg.Data, &req); err != nil {
		return OpenRequest{}, fmt.Errorf("open request: %w", err)
	}
	if !isSession(req.Session) {
		return OpenRequest{}, fmt.Errorf("open request: session %q: want 16 to 64 letters, digits, dashes", req.Session)
	}
	return req, nil
}

// isSession keeps a session's name, which becomes part of subjects, from being a wildcard or easy to guess.
func isSession(s string) bool {
	if len(s) < 16 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
