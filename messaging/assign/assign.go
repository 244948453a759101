// Package assign is the coordinator's side of stream KV_assign: the desired state of each node, written by the leader,
// republished by the server to the node's subjects and read back by nodes with messaging.GetAssigned.
//
// It carries bytes: what they mean, and their signing, is the publisher's business.
package assign

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/batch"
)

// Options configure the stream.
type Options struct {
	Replicas int                   // 1, 3 or 5; 0 means 1
	Storage  jetstream.StorageType // FileStorage (0) but in virtual-time tests
	// Stage, called once the stream is there, has the server keep batches on their way in memory. Nil or an error means that
	// they take files, which pays for large ones only.
	Stage  func(stream string) error
	Logger *slog.Logger // nil logs nothing
}

// requestTime bounds a request whose context has no deadline.
const requestTime = 10 * time.Second

// listTime bounds a list, and fetchMessages what the server sends of it at once.
const (
	listTime      = time.Minute
	fetchMessages = 256
)

// Store writes desired state. It is safe for concurrent use, but one part has one writer.
type Store struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	rounds *rounds
}

// Open creates the stream, or opens it and brings its configuration up to date.
func Open(ctx context.Context, js jetstream.JetStream, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              messaging.StreamAssign,
		Description:       "Skerry desired state of nodes; derived from the objects",
		Subjects:          []string{messaging.AssignRepublishSource},
		MaxMsgsPerSubject: 1,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		Discard:           jetstream.DiscardNew,
		Storage:           o.Storage,
		Replicas:          max(o.Replicas, 1),
		AllowDirect:       true, // the only read that nodes have

		AllowAtomicPublish: true, // see rounds
		RePublish: &jetstream.RePublish{
			Source: messaging.AssignRepublishSource, Destination: messaging.AssignRepublishDestination,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", messaging.StreamAssign, err)
	}
	s := &Store{js: js, stream: stream}
	s.rounds = &rounds{
		Least: batch.Least(messaging.StreamAssign, o.Storage, o.Replicas, o.Stage, o.Logger), One: s.publishOne, Many: s.publishBatch,
	}
	return s, nil
}

// Put stores a part and returns its sequence. signature is Signer.Sign over messaging.AssignKey(node, part) and data. After
// an error the part may be stored all the same: put it again, or List.
func (s *Store) Put(ctx context.Context, node, part string, data []byte, signature string) (uint64, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	m := &nats.Msg{Subject: messaging.AssignKey(node, part), Data: data, Header: nats.Header{}}
	m.Header.Set(messaging.SignatureHeader, signature)
	sequence, err := s.publish(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("assign %s: %w", m.Subject, err)
	}
	return sequence, nil
}

// Delete removes a part and leaves nothing behind; a missing one is no error. Nodes are not told: what they should drop
// they learn from their manifest.
func (s *Store) Delete(ctx context.Context, node, part string) error {
	return s.purge(ctx, messaging.AssignKey(node, part))
}

// DeleteNode removes all parts of a node.
func (s *Store) DeleteNode(ctx context.Context, node string) error {
	return s.purge(ctx, messaging.AssignKey(node, ">"))
}

func (s *Store) purge(ctx context.Context, subject string) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return fmt.Errorf("remove %s: %w", subject, err)
	}
	return nil
}

// List returns all parts of a node, or of all nodes (Broadcast too) if node is empty, in order of revision. It is for the
// parts' writer: what another changes meanwhile may be missed.
func (s *Store) List(ctx context.Context, node string) ([]messaging.Assigned, error) {
	filter := messaging.AssignRepublishSource
	if node != "" {
		filter = messaging.AssignKey(node, ">")
	}
	parts, err := s.list(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", filter, err)
	}
	return parts, nil
}

func (s *Store) list(ctx context.Context, filter string) (parts []messaging.Assigned, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	consumer, err := s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, FilterSubject: filter,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	defer s.removeConsumer(ctx, info.Name)
	for pending, count := info.NumPending, uint64(0); pending > 0; {
		batch, err := consumer.Fetch(fetchMessages, jetstream.FetchContext(ctx))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			if count++; meta.Sequence.Consumer != count {
				return nil, fmt.Errorf("message %d of %d got lost on the way", count, info.NumPending)
			}
			a, err := parse(m, meta)
			if err != nil {
				return nil, err
			}
			if pending = meta.NumPending; pending == 0 {
				return append(parts, a), nil
			}
			parts = append(parts, a)
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func parse(m jetstream.Msg, meta *jetstream.MsgMetadata) (messaging.Assigned, error) {
	node, part, err := messaging.ParseAssignKey(m.Subject())
	if err != nil {
		return messaging.Assigned{}, err
	}
	return messaging.Assigned{
		Node: node, Part: part, Data: m.Data(), Revision: meta.Sequence.Stream,
		Signature: m.Headers().Get(messaging.SignatureHeader),
	}, nil
}

// removeConsumer does what the server would do by itself a minute later.
func (s *Store) removeConsumer(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = s.stream.DeleteConsumer(ctx, name)
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTime)
}
