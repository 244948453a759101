// Package batch stores several messages of one stream with one sync of the disk: as an atomic batch, of which the server
// syncs the last message only. messaging/store and messaging/assign send by it what many writers want stored at once.
//
// Rounds say what goes together. What to do when a batch is refused is its user's affair.
package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// What one batch may hold. The bytes keep it well below what a writer leaves free on the disk.
const (
	MaxMessages = 256
	MaxBytes    = 2 << 20
)

// A batch costs the server more than a message: it is staged, then copied. From so many messages on it is cheaper all the
// same: by memory that stages it (embedded.Server.Stage), or by files, each of which is synced too.
const (
	fromMemory = 4
	fromFiles  = 32
)

// Least is how many messages for a stream, which must be there, are cheaper as a batch. stage has the server keep the
// stream's batches in memory while they are on their way; nil when it cannot.
func Least(stream string, storage jetstream.StorageType, replicas int, stage func(stream string) error, log *slog.Logger) int {
	if storage == jetstream.MemoryStorage || replicas > 1 {
		return fromMemory // the server stages these in memory by itself
	}
	if stage == nil {
		return fromFiles
	}
	if err := stage(stream); err != nil {
		log.Warn("batches are not staged in memory; many writes at once will be slower", "stream", stream, "err", err)
		return fromFiles
	}
	return fromMemory
}

// Headers of atomic batches, for which nats.go has no names.
const (
	idHeader       = "Nats-Batch-Id"
	sequenceHeader = "Nats-Batch-Sequence"
	commitHeader   = "Nats-Batch-Commit"
)

// Publish sends messages, at least one and all to one stream, and returns the sequence of the last; those before it have
// the sequences before. It adds to their headers, which must be there. After a *jetstream.APIError nothing was stored, after
// another error perhaps all.
func Publish(ctx context.Context, nc *nats.Conn, messages []*nats.Msg) (last uint64, err error) {
	id := nuid.Next()
	for i, m := range messages {
		m.Header.Set(idHeader, id)
		m.Header.Set(sequenceHeader, strconv.Itoa(i+1))
		if i == len(messages)-1 {
			m.Header.Set(commitHeader, "1")
			return commit(ctx, nc, m, len(messages))
		}
		if err := nc.PublishMsg(m); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("empty batch")
}

// commit sends the last message, the only one that is answered.
func commit(ctx context.Context, nc *nats.Conn, m *nats.Msg, count int) (uint64, error) {
	answer, err := nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, err
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
		Count    int                 `json:"count"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("answer to a batch for %s: %w", m.Subject, err)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	if ack.Count != count || ack.Sequence < uint64(count) { //nolint:gosec // the count is ours, and positive
		return 0, fmt.Errorf("answer to a batch of %d for %s: %d stored, the last as %d", count, m.Subject, ack.Count, ack.Sequence)
	}
	return ack.Sequence, nil
}
