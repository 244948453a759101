package apiserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/view"
)

const (
	// A watch without a timeout ends after 30 to 60 minutes, spread so that clients do not all come back at once.
	watchLife = 30 * time.Minute
	// bookmarkEvery is how often an idle watch says up to which revision it is complete.
	bookmarkEvery = time.Minute
)

// stream is one running watch.
type stream struct {
	*encoder
	sel       selection
	out       *outflow
	buf       bytes.Buffer
	columns   bool // the next Table must carry column definitions
	bookmarks bool
	revision  uint64 // up to which the client knows everything
}

func (s *Server) watch(c *call) error {
	e, err := s.encoder(c, offerWatch)
	if err != nil {
		return err
	}
	if e.media == typeYAML { // cannot be cut into events
		return notAcceptable(offer{protobuf: hasProtobuf(c.resource.New())})
	}
	o, err := c.listOptions()
	if err != nil {
		return err
	}
	sel, err := newSelection(c.resource, o)
	if err != nil {
		return err
	}
	st := &stream{encoder: e, sel: sel, out: s.outflow(c.w), columns: true, bookmarks: o.AllowWatchBookmarks}
	st.pretty = false
	return s.startWatch(c, st, o)
}

// startWatch sends what comes first. Up to here errors are plain answers; from here on they are events of the stream.
func (s *Server) startWatch(c *call, st *stream, o *internalversion.ListOptions) error {
	from, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return err
	}
	if err := s.fresh(c.r.Context(), from); err != nil {
		return err
	}
	c.code = http.StatusOK
	c.w.Header().Set("Content-Type", st.streamType())
	c.w.Header().Set("Cache-Control", "no-cache, private")
	c.w.WriteHeader(http.StatusOK)
	ctx, cancel := watchContext(c.r.Context(), o)
	defer cancel()
	w, err := s.open(c, st, o, from)
	if err == nil {
		defer w.Stop()
		err = st.run(ctx, w)
	}
	if err != nil && st.fail(err) {
		s.log.Info("watch client dropped", "user", c.user.Name, "path", c.r.URL.Path, "remote", c.r.RemoteAddr, "err", err)
	}
	return nil
}

// watchContext ends with the request, at the client's timeout, and when the server stops.
func watchContext(ctx context.Context, o *internalversion.ListOptions) (context.Context, context.CancelFunc) {
	life := watchLife + rand.N(watchLife) //nolint:gosec // not a secret
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		life = time.Duration(min(*o.TimeoutSeconds, 1<<31)) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, life)
	stop := endWithServer(ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// open starts reading: after a revision, or from the present state, which is sent first as if it had just been added.
func (s *Server) open(c *call, st *stream, o *internalversion.ListOptions, from uint64) (*view.Watch, error) {
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	refused := o.SendInitialEvents != nil && !*o.SendInitialEvents
	if from > 0 && !initial {
		w, err := s.view.Watch(c.resource, c.space(), from)
		if err != nil {
			return nil, expired("too old resource version: %d (%d)", from, s.view.Revision())
		}
		st.revision = from
		return w, nil
	}
	items, revision, w := s.view.ListWatch(c.resource, c.space())
	st.revision = revision
	if refused {
		return w, nil
	}
	if err := st.initial(items, initial && st.bookmarks); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

func (st *stream) initial(items []*view.Item, end bool) error {
	for _, item := range st.sel.choose(items) {
		if err := st.add(watch.Added, item); err != nil {
			return err
		}
		if st.buf.Len() > 1<<20 {
			if err := st.flush(); err != nil {
				return err
			}
		}
	}
	if end {
		if err := st.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}); err != nil {
			return err
		}
	}
	return st.flush()
}

// run sends changes until the watch ends. A timeout or a client that went away is no error.
func (st *stream) run(ctx context.Context, w *view.Watch) error {
	if err := st.flush(); err != nil {
		return err
	}
	tick := time.NewTicker(bookmarkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return st.farewell(ctx, w)
		case <-tick.C:
		case <-w.Ready():
			if err := st.take(w); err != nil {
				return err
			}
			continue
		}
		if err := st.take(w); err != nil {
			return err
		}
		if err := st.mark(); err != nil {
			return err
		}
	}
}

// farewell ends a watch whose time is up with a bookmark, so that the client comes back where it left.
func (st *stream) farewell(ctx context.Context, w *view.Watch) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	if err := st.take(w); err != nil {
		return err
	}
	return st.mark()
}

func (st *stream) mark() error {
	if !st.bookmarks {
		return nil
	}
	if err := st.bookmark(nil); err != nil {
		return err
	}
	return st.flush()
}

// take sends everything there is in one flush.
func (st *stream) take(w *view.Watch) error {
	events, revision, err := w.Take()
	if err != nil {
		return expired("too old resource version: %d: the client reads too slowly", st.revision)
	}
	for _, ev := range events {
		if err := st.change(ev); err != nil {
			return err
		}
	}
	st.revision = revision
	return st.flush()
}

// change sends an event as the selection sees it: an object that stops to match is gone for this client.
func (st *stream) change(ev view.Event) error {
	if st.sel.everything() {
		return st.add(ev.Type, ev.Item)
	}
	before := st.sel.matches(ev.Previous)
	now := ev.Type != watch.Deleted && st.sel.matches(ev.Item)
	switch {
	case before && now:
		return st.add(watch.Modified, ev.Item)
	case now:
		return st.add(watch.Added, ev.Item)
	case before && ev.Type == watch.Deleted:
		return st.add(watch.Deleted, ev.Item)
	case before:
		gone, err := view.NewItem(st.resource, ev.Previous.Object.DeepCopyObject(), ev.Item.Revision)
		if err != nil {
			return err
		}
		return st.add(watch.Deleted, gone)
	}
	return nil
}

// add appends one event to the batch.
func (st *stream) add(t watch.EventType, item *view.Item) error {
	switch {
	case st.as == asTable:
		obj := st.table([]*view.Item{item}, metav1.ListMeta{ResourceVersion: item.Meta.GetResourceVersion()}, st.columns)
		st.columns = false
		return st.addObject(t, obj)
	case st.as == asMetadata:
		return st.addObject(t, metadataOf(item.Meta))
	case st.media == typeProtobuf:
		object, err := protobufObject(item)
		if err != nil {
			return err
		}
		return st.addProtobuf(t, object)
	}
	data, err := item.JSON()
	if err != nil {
		return err
	}
	st.addJSON(t, data)
	return nil
}

func (st *stream) addObject(t watch.EventType, obj runtime.Object) error {
	if st.media == typeProtobuf {
		object, err := encodeProtobuf(obj)
		if err != nil {
			return err
		}
		return st.addProtobuf(t, object)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("encode %T: %w", obj, err)
	}
	st.addJSON(t, data)
	return nil
}

func (st *stream) addJSON(t watch.EventType, object []byte) {
	st.buf.WriteString(`{"type":"`)
	st.buf.WriteString(string(t))
	st.buf.WriteString(`","object":`)
	st.buf.Write(object)
	st.buf.WriteString("}\n")
}

// addProtobuf writes a frame: four bytes of length, then a WatchEvent without an envelope around an object with one.
func (st *stream) addProtobuf(t watch.EventType, object []byte) error {
	event := metav1.WatchEvent{Type: string(t), Object: runtime.RawExtension{Raw: object}}
	frame, err := event.Marshal()
	if err != nil {
		return fmt.Errorf("encode watch event: %w", err)
	}
	st.buf.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame)))) //nolint:gosec // objects are bounded far below 4 GiB
	st.buf.Write(frame)
	return nil
}

// bookmark tells the client up to which revision it knows everything.
func (st *stream) bookmark(annotations map[string]string) error {
	obj := st.resource.New()
	obj.GetObjectKind().SetGroupVersionKind(st.resource.GVK)
	item, err := view.NewItem(st.resource, obj, st.revision)
	if err != nil {
		return err
	}
	item.Meta.SetAnnotations(annotations)
	return st.add(watch.Bookmark, item)
}

// flush sends the batch.
func (st *stream) flush() error {
	err := st.out.send(st.buf.Bytes())
	st.buf.Reset()
	if st.buf.Cap() > 4<<20 {
		st.buf = bytes.Buffer{} // a big first batch must not stay for the life of an idle watch
	}
	return err
}

// fail ends the stream with an ERROR event that says why. It reports whether the client was too slow to be told.
func (st *stream) fail(err error) (dropped bool) {
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	status, _ := statusOf(err)
	if st.addObject(watch.Error, &status) == nil {
		_ = st.flush() // the client may be gone; the stream ends either way
	}
	return false
}

// streamType is the content type of a watch.
func (f form) streamType() string {
	if f.media == typeProtobuf {
		return typeProtobuf + ";stream=watch"
	}
	return f.contentType()
}
