// Package assign is the coordinator's side of stream KV_assign: the desired state of each node, written by the leader,
// republished by the server to the node's subjects and read back by nodes with messaging.GetAssigned.
//
// It carries bytes: what they mean, and their signing, is the publisher's business.
package assign

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
)

// Options configure the stream.
type Options struct {
	Replicas int                   // 1, 3 or 5; 0 means 1
	Storage  jetstream.StorageType // FileStorage (0) but in virtual-time tests
}

// Store writes desired state. It is safe for concurrent use.
type Store struct{}

// Open creates the stream, or opens it and brings its configuration up to date.
func Open(ctx context.Context, js jetstream.JetStream, o Options) (*Store, error) { return nil, nil }

// Put stores a part and returns its sequence. signature is Signer.Sign over messaging.AssignKey(node, part) and data.
func (s *Store) Put(ctx context.Context, node, part string, data []byte, signature string) (uint64, error) {
	return 0, nil
}

// Delete removes a part and leaves nothing behind; a missing one is no error.
func (s *Store) Delete(ctx context.Context, node, part string) error { return nil }

// DeleteNode removes all parts of a node.
func (s *Store) DeleteNode(ctx context.Context, node string) error { return nil }

// List returns all parts of a node, or of all nodes (Broadcast too) if node is empty, in order of revision.
func (s *Store) List(ctx context.Context, node string) ([]messaging.Assigned, error) { return nil, nil }
