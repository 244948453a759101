package store

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
)

const (
	fetchMessages   = 512 // what the server may send ahead of the watcher
	serverHeartbeat = 5 * time.Second
)

// source is one consumer of the stream. nats.go's own ordered consumer would replace itself in silence after a loss, and
// so hide that deletions may have been missed.
type source struct {
	stream   jetstream.Stream
	name     string
	pending  uint64 // messages that waited when the consumer was made
	consume  jetstream.ConsumeContext
	messages chan message // the buffer lets an increment take up what has arrived
	failed   chan error   // the first failure; later ones add nothing
	done     chan struct{}
	status   <-chan nats.Status
	seen     uint64 // messages so far: a gap in the consumer's count means that one was lost
	log      func(msg string, args ...any)
	epoch    func(revision uint64) // takes each epoch that passes
}

// message is one message of the stream, decoded.
type message struct {
	entry    Entry
	object   bool   // entry is one; false for an epoch and for what a stranger has written
	revision uint64 // in the stream
	count    uint64 // by the consumer, from 1
	pending  uint64 // how many the server has behind it
}

func (s *Store) openSource(ctx context.Context, c jetstream.ConsumerConfig, status <-chan nats.Status) (*source, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	stream, err := s.js.Stream(ctx, messaging.StreamState)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", messaging.StreamState, err)
	}
	consumer, err := stream.CreateConsumer(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", messaging.StreamState, err)
	}
	info := consumer.CachedInfo()
	src := &source{
		stream: stream, name: info.Name, pending: info.NumPending, status: status, log: s.log.Error, epoch: s.heard,
		messages: make(chan message, fetchMessages), failed: make(chan error, 1), done: make(chan struct{}),
	}
	src.consume, err = consumer.Consume(src.receive,
		jetstream.PullMaxMessages(fetchMessages), jetstream.PullHeartbeat(serverHeartbeat),
		jetstream.PullExpiry(6*serverHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { src.fail(err) }))
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", messaging.StreamState, err)
	}
	return src, nil
}

// close ends the consumer, here and on the server.
func (src *source) close(ctx context.Context) {
	close(src.done)
	src.consume.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	// When it cannot be told now, the server removes it after InactiveThreshold.
	_ = src.stream.DeleteConsumer(ctx, src.name)
}

func (src *source) fail(err error) {
	select {
	case src.failed <- err:
	default:
	}
}

// receive runs on the subscription's goroutine.
func (src *source) receive(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		src.fail(fmt.Errorf("message on %s: %w", m.Subject(), err))
		return
	}
	msg := message{revision: meta.Sequence.Stream, count: meta.Sequence.Consumer, pending: meta.NumPending}
	if key, err := parseSubject(m.Subject()); err == nil {
		msg.object = true
		msg.entry = stored{
			Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Data: m.Data(), header: m.Headers(),
		}.entry(key)
	} else if m.Subject() == epochSubject {
		src.epoch(msg.revision)
	} else {
		src.log("not an object, ignored", "subject", m.Subject(), "revision", msg.revision, "err", err)
	}
	select {
	case src.messages <- msg:
	case <-src.done:
	}
}

// next waits for a message. Its errors are errLost, or the end of the context.
func (src *source) next(ctx context.Context) (message, error) {
	select {
	case m := <-src.messages:
		return src.count(m)
	case err := <-src.failed:
		return message{}, fmt.Errorf("%w: %w", errLost, err)
	case s := <-src.status:
		return message{}, fmt.Errorf("%w: connection %s", errLost, s)
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	}
}

// ready returns a message that has already arrived, or false.
func (src *source) ready() (message, bool, error) {
	select {
	case m := <-src.messages:
		m, err := src.count(m)
		return m, err == nil, err
	default:
		return message{}, false, nil
	}
}

func (src *source) count(m message) (message, error) {
	src.seen++
	if m.count != src.seen {
		return message{}, fmt.Errorf("%w: message %d of the consumer is missing", errLost, src.seen)
	}
	return m, nil
}
