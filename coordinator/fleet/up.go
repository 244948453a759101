package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
)

// upStream is stream UP with this coordinator's consumer on it.
type upStream struct {
	stream   jetstream.Stream
	consumer jetstream.Consumer
	// old is the stream's last sequence when it was opened. Up to there a report may have been merged by a coordinator
	// before, and so may a newer one of its subject.
	old uint64
	log *slog.Logger
}

// upConsumer begins the names of consumers; the rest is new for each coordinator.
const upConsumer = "coordinator-"

// openUp makes the stream if there is none, and a new consumer that starts where the last coordinator's stood: it gets
// what that one had taken and not merged at once and in order, not when its time to acknowledge is over. Some is merged
// twice, which changes nothing. The name is new too: a server that was killed while it wrote a consumer down finds a part of
// it when a consumer of that name is made again.
func openUp(ctx context.Context, js jetstream.JetStream, storage jetstream.StorageType, log *slog.Logger) (*upStream, error) {
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: messaging.StreamUp, Subjects: []string{messaging.UpAll},
		Storage: storage, MaxAge: upMaxAge, Duplicates: upDuplicates, Discard: jetstream.DiscardOld,
	})
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", messaging.StreamUp, err)
	}
	u := &upStream{stream: stream, old: stream.CachedInfo().State.LastSeq, log: log}
	before, floor, err := consumersBefore(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("list consumers of %s: %w", messaging.StreamUp, err)
	}
	u.consumer, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: upConsumer + rand.Text(), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: 4 * batchSize,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: floor + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer on %s: %w", messaging.StreamUp, err)
	}
	for _, name := range before {
		if err := stream.DeleteConsumer(ctx, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, fmt.Errorf("delete consumer %s of %s: %w", name, messaging.StreamUp, err)
		}
	}
	return u, nil
}

// consumersBefore lists the consumers of coordinators before this one, and up to where they have merged everything.
func consumersBefore(ctx context.Context, stream jetstream.Stream) (names []string, floor uint64, err error) {
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if strings.HasPrefix(info.Name, upConsumer) {
			names = append(names, info.Name)
			floor = max(floor, info.AckFloor.Stream)
		}
	}
	return names, floor, list.Err()
}

// newest is the sequence of the last report of a subject; zero when that is not known.
func (u *upStream) newest(ctx context.Context, subject string) uint64 {
	m, err := u.stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			u.log.Warn("newest report not found out, an older one may be merged for a while", "subject", subject, "err", err)
		}
		return 0
	}
	return m.Sequence
}
