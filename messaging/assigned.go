package messaging

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// ErrNotAssigned means that KV_assign has no such key: the store is empty, or the part was never written. By itself it is
// never an order to stop anything.
var ErrNotAssigned = errors.New("nothing is assigned")

// Assigned is one key of KV_assign as it reached a node.
type Assigned struct {
	Node      string // the node of the key, or Broadcast
	Part      string // ManifestPart, ServicesPart or a PodPart
	Data      []byte
	Revision  uint64 // sequence in KV_assign; the higher one of two is the newer
	Signature string // SignatureHeader
}

// Subject is the key that the signature covers.
func (a Assigned) Subject() string { return AssignKey(a.Node, a.Part) }

// Verify returns nil if the holder of publicKey signed this data for this very key.
func (a Assigned) Verify(publicKey string) error {
	return Verify(publicKey, a.Subject(), a.Data, a.Signature)
}

// GetAssigned reads one key of KV_assign by direct get, the only read a node is allowed. node is the node itself or
// Broadcast. It returns an ErrNotAssigned if there is no such key; any other error means that nothing was learnt.
func GetAssigned(ctx context.Context, nc *nats.Conn, node, part string) (Assigned, error) {
	key := AssignKey(node, part)
	msg, err := nc.RequestWithContext(ctx, directGet+key, nil)
	if err != nil {
		return Assigned{}, fmt.Errorf("get %s: %w", key, err)
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
	case "404":
		return Assigned{}, fmt.Errorf("get %s: %w", key, ErrNotAssigned)
	default:
		return Assigned{}, fmt.Errorf("get %s: server answers %s %s", key, status, msg.Header.Get("Description"))
	}
	a, err := ParseAssigned(msg)
	if err != nil {
		return Assigned{}, fmt.Errorf("get %s: %w", key, err)
	}
	if a.Subject() != key {
		return Assigned{}, fmt.Errorf("get %s: server answers with key %s", key, a.Subject())
	}
	return a, nil
}

// ParseAssigned reads what arrives on AssignSubjects, or as the answer to a direct get. The caller must still Verify it,
// and check that Node is itself or Broadcast: anyone may aim an answer at another node's subjects.
func ParseAssigned(msg *nats.Msg) (Assigned, error) {
	node, part, err := ParseAssignKey(msg.Header.Get("Nats-Subject"))
	if err != nil {
		return Assigned{}, fmt.Errorf("message on %s: %w", msg.Subject, err)
	}
	revision, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil || revision == 0 {
		return Assigned{}, fmt.Errorf("message on %s: bad sequence %q", msg.Subject, msg.Header.Get("Nats-Sequence"))
	}
	return Assigned{
		Node: node, Part: part, Data: msg.Data, Revision: revision, Signature: msg.Header.Get(SignatureHeader),
	}, nil
}

// ParseAssignKey undoes AssignKey.
func ParseAssignKey(key string) (node, part string, err error) {
	rest, ok := strings.CutPrefix(key, "$KV.assign.")
	if !ok {
		return "", "", fmt.Errorf("key %q is not one of %s", key, StreamAssign)
	}
	token, part, ok := strings.Cut(rest, ".")
	if !ok || token == "" || part == "" {
		return "", "", fmt.Errorf("key %q has no node or no part", key)
	}
	if token == Broadcast {
		return Broadcast, part, nil
	}
	if node, err = ParseToken(token); err != nil {
		return "", "", fmt.Errorf("key %q: %w", key, err)
	}
	return node, part, nil
}
