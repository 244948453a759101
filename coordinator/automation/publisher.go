package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/store"
)

// publisher is one session of Events. One goroutine uses it.
type publisher struct {
	events *Events
	stream jetstream.Stream
	last   position // with what is on its way
	fresh  bool     // the stream was empty: nothing was ever told

	// held is the last message, which is not sent yet: settle asks for an answer to it. Each message names its place in the
	// stream, so that none is stored without those before it, and one answer says enough of all.
	held     *nats.Msg
	revision uint64 // of held
	ahead    int    // messages since the last answer

	// known says of objects met in this session whether they exist, as told so far.
	known     map[store.Key]bool
	following bool
}

// follow publishes increments.
func (p *publisher) follow(ctx context.Context, u store.Update) error {
	if u.Complete {
		return errResume
	}
	if v := p.events.View; v != nil { // it decodes and encodes each object anyway, and is there in a moment
		if err := v.Wait(ctx, u.Cursor.Revision); err != nil {
			return err
		}
	}
	for _, entry := range u.Entries {
		if err := p.tell(ctx, entry, u.Cursor); err != nil {
			return err
		}
	}
	return p.settle(ctx)
}

// restart publishes a complete set, what is new in it, and then increments.
func (p *publisher) restart(ctx context.Context, u store.Update) error {
	if p.following {
		return p.follow(ctx, u)
	}
	p.following = true
	told := p.last.cursor.Revision
	if !u.Cursor.Stream.Equal(p.last.cursor.Stream) {
		told = 0 // revisions of another life of the store say nothing about this one's
	}
	if !p.fresh {
		// With the old position: should we die before the rest is told, the gap is found again.
		gap := Change{Type: typeResync, Kind: resyncKind, Revision: u.Cursor.Revision}
		if err := p.publish(ctx, gap, "resync", p.last.cursor); err != nil {
			return err
		}
	}
	for _, entry := range u.Entries {
		if entry.Revision <= told {
			continue
		}
		p.known[entry.Key] = !p.fresh
		if err := p.tell(ctx, entry, u.Cursor); err != nil {
			return err
		}
	}
	return p.settle(ctx)
}

// tell publishes one revision.
func (p *publisher) tell(ctx context.Context, entry store.Entry, seen store.Cursor) error {
	res := kindOf(entry.Key)
	if res == nil {
		return nil
	}
	c := Change{Kind: res.Plural, Namespace: entry.Namespace, Name: entry.Name, Revision: entry.Revision}
	t, err := p.describe(ctx, entry, &c, res)
	if err != nil {
		return err
	}
	c.Type = string(t)
	seen.Revision = entry.Revision
	if err := p.publish(ctx, c, verbOf(t), seen); err != nil {
		return err
	}
	p.known[entry.Key] = !entry.Deleted
	return nil
}

// describe fills in the object and says what happened to it.
func (p *publisher) describe(ctx context.Context, entry store.Entry, c *Change, res *resource.Resource) (watch.EventType, error) {
	exists, met := p.known[entry.Key]
	var before *Change
	var err error
	if !met && !entry.First || entry.Deleted {
		if before, err = p.lastTold(ctx, c); err != nil {
			return "", err
		}
		exists = before != nil && before.Type != string(watch.Deleted)
	}
	if entry.Deleted {
		if before != nil {
			c.Object = before.Object
		}
		return watch.Deleted, nil
	}
	obj, encoded, err := p.object(entry, res)
	if err != nil {
		// Told without an object: one unreadable value must not hold up all that follow.
		p.events.Log.Error("stored object unreadable", "kind", res.Plural, "namespace", entry.Namespace, "name", entry.Name, "revision", entry.Revision, "err", err)
		return watch.Modified, nil
	}
	c.Object = encoded
	if exists || !met && !entry.First && before == nil && old(obj, entry.Time) {
		return watch.Modified, nil
	}
	return watch.Added, nil
}

// object is what may be published of an entry, as such and in JSON. The object may be shared.
func (p *publisher) object(entry store.Entry, res *resource.Resource) (runtime.Object, []byte, error) {
	item, err := p.shown(entry, res)
	if err != nil {
		return nil, nil, err
	}
	if open := redact(item.Object); open != item.Object {
		encoded, err := json.Marshal(open)
		return open, encoded, err
	}
	encoded, err := item.EncodeJSON()
	return item.Object, encoded, err
}

// shown is the entry as the view has it, or decoded here if that is at another revision.
func (p *publisher) shown(entry store.Entry, res *resource.Resource) (*view.Item, error) {
	if v := p.events.View; v != nil {
		if item, ok := v.Get(res, entry.Namespace, entry.Name); ok && item.Revision == entry.Revision {
			return item, nil
		}
	}
	obj, err := resource.Decode(entry.Value)
	if err != nil {
		return nil, err
	}
	return view.NewItem(res, obj, entry.Revision)
}

// old reports whether an object of which the stream has nothing existed before its revision of time at: what was told of
// it has aged away, which takes days, so an hour's difference between clocks does not matter.
func old(obj runtime.Object, at time.Time) bool {
	m, err := meta.Accessor(obj)
	if err != nil {
		return false
	}
	created := m.GetCreationTimestamp()
	return !created.IsZero() && at.Sub(created.Time) > time.Hour
}

// lastTold finds the last change of the object in the stream; nil when there is none.
func (p *publisher) lastTold(ctx context.Context, c *Change) (*Change, error) {
	if err := p.settle(ctx); err != nil { // it may be on its way
		return nil, err
	}
	subject := strings.TrimSuffix(messaging.EventSubject(c.Namespace, c.Kind, c.Name, ""), ".") + ".*"
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	msg, err := p.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // said in the doc
	}
	if err != nil {
		return nil, fmt.Errorf("read last change of %s: %w", subject, err)
	}
	told := &Change{}
	if err := json.Unmarshal(msg.Data, told); err != nil {
		return nil, nil //nolint:nilerr,nilnil // a stranger's message tells nothing
	}
	return told, nil
}

// publish appends one message behind the last one we know. Anything else in between, be it another publisher's or our
// own of which the acknowledgement was lost, fails it; the next session starts from what is there. The answer is awaited
// by settle.
func (p *publisher) publish(ctx context.Context, c Change, verb string, at store.Cursor) error {
	data, err := encodeChange(c)
	if err != nil {
		return err
	}
	msg := nats.NewMsg(messaging.EventSubject(c.Namespace, c.Kind, c.Name, verb))
	msg.Data = data
	msg.Header.Set(headerRevision, strconv.FormatUint(at.Revision, 10))
	msg.Header.Set(headerStream, at.Stream.Format(time.RFC3339Nano))
	msg.Header.Set(headerSeen, at.Time.Format(time.RFC3339Nano))
	msg.Header.Set(jetstream.MsgIDHeader, messageID(c))
	msg.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(p.last.sequence, 10))
	if p.held != nil {
		if err := p.events.JS.Conn().PublishMsg(p.held); err != nil {
			return fmt.Errorf("publish change %d: %w", p.revision, err)
		}
	}
	p.held, p.revision = msg, c.Revision
	p.last.sequence++
	if p.ahead++; p.ahead == maxUnanswered {
		return p.settle(ctx)
	}
	return nil
}

// settle waits until all that was published is stored.
func (p *publisher) settle(ctx context.Context) error {
	if p.held == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	ack, err := p.events.JS.PublishMsg(ctx, p.held, jetstream.WithRetryAttempts(0)) // a second one would be out of place
	if err != nil {
		return fmt.Errorf("publish change %d: %w", p.revision, err)
	}
	if ack.Duplicate || ack.Sequence != p.last.sequence {
		return fmt.Errorf("publish change %d: the stream has it already, at %d", p.revision, ack.Sequence)
	}
	p.held, p.ahead = nil, 0
	return nil
}

// encodeChange is json.Marshal, but for the object: it is valid and compact already, so it is not looked through again.
func encodeChange(c Change) ([]byte, error) {
	object := c.Object
	c.Object = nil
	head, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode change: %w", err)
	}
	if object == nil {
		return head, nil
	}
	out := make([]byte, 0, len(head)+len(object)+len(`,"object":}`))
	out = append(append(out, head[:len(head)-1]...), `,"object":`...)
	return append(append(out, object...), '}'), nil
}

// messageID is the change's revision, by which readers that hear of it twice can tell.
func messageID(c Change) string {
	id := strconv.FormatUint(c.Revision, 10)
	if c.Type == typeResync {
		return "resync-" + id
	}
	return id
}
