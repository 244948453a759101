package controller

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of what is recorded, as in client-go's event correlator.
const (
	similarLimit  = 10               // events of one object, reason and type with other words: more are combined
	similarWindow = 10 * time.Minute // in which they are counted
	burstEvents   = 25               // of one component about one object at once
	refillEvents  = 5 * time.Minute  // after which one more may follow
	memoryEvents  = 4096             // remembered of each sort; the oldest half is forgotten beyond
	queueEvents   = 1024             // a burst that waits for the store; more are dropped and counted
)

// Events records events as Event objects: repetitions raise the count of the one that is there, a flood of similar ones
// becomes one, and a component that says too much about one object is cut short. Record may be called concurrently.
type Events struct {
	writer  Writer
	log     *slog.Logger
	queue   chan stamped
	dropped chan struct{} // holds one value when something was dropped since the last warning
	known   map[string]*corev1.Event
	similar map[string]*similar
	budgets map[string]*budget
	number  uint64
}

type stamped struct {
	Event
	at time.Time
}

// similar counts the different messages of one object, reason and type.
type similar struct {
	since    time.Time
	messages map[string]bool
}

// budget is a token bucket.
type budget struct {
	tokens float64
	at     time.Time
}

// NewEvents makes a recorder that writes through w.
func NewEvents(w Writer, log *slog.Logger) *Events {
	return &Events{
		writer: w, log: log, queue: make(chan stamped, queueEvents), dropped: make(chan struct{}, 1),
		known: map[string]*corev1.Event{}, similar: map[string]*similar{}, budgets: map[string]*budget{},
	}
}

// Record queues an event and never blocks: people lose an event sooner than a pod its restart.
func (r *Events) Record(e Event) {
	select {
	case r.queue <- stamped{e, time.Now()}:
	default:
		select {
		case r.dropped <- struct{}{}:
		default:
		}
	}
}

// Run writes events until ctx ends; what is queued then is lost.
func (r *Events) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.dropped:
			r.log.Warn("events dropped", "queue", queueEvents)
		case e := <-r.queue:
			r.write(ctx, e)
		}
	}
}

// write stores one event unless its component has spoken enough about the object.
func (r *Events) write(ctx context.Context, e stamped) {
	e.Message = r.combine(e)
	if !r.allow(e) {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	key := fmt.Sprintf("%s/%s", similarKey(e), e.Message)
	err := r.store(bounded, key, e)
	if err != nil && ctx.Err() == nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		r.log.Warn("event not recorded", "reason", e.Reason, "kind", e.Regarding.Kind, "namespace", e.Regarding.Namespace, "name", e.Regarding.Name, "err", err)
	}
}

func (r *Events) store(ctx context.Context, key string, e stamped) error {
	if known := r.known[key]; known != nil {
		again := known.DeepCopy()
		again.Count++
		again.LastTimestamp = metav1.NewTime(e.at)
		err := r.keep(ctx, key, Update, again)
		if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	halve(r.known, memoryEvents)
	return r.keep(ctx, key, Create, r.object(e))
}

func (r *Events) keep(ctx context.Context, key string, verb Verb, event *corev1.Event) error {
	result, err := r.writer.Perform(ctx, Change{Verb: verb, Object: event})
	if err != nil {
		return fmt.Errorf("%s event %s: %w", verb, event.Name, err)
	}
	if stored, ok := result.(*corev1.Event); ok {
		r.known[key] = stored
	}
	return nil
}

func (r *Events) object(e stamped) *corev1.Event {
	r.number++
	namespace := e.Regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	at := metav1.NewTime(e.at)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", e.Regarding.Name, uint64(e.at.UnixNano())+r.number)},
		InvolvedObject: e.Regarding, Reason: e.Reason, Message: e.Message, Type: e.Type, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source: corev1.EventSource{Component: e.Component, Host: e.Host}, ReportingController: e.Component,
	}
}

// combine replaces the words of a flood of similar events, so that they count as one.
func (r *Events) combine(e stamped) string {
	halve(r.similar, memoryEvents)
	key := similarKey(e)
	s := r.similar[key]
	if s == nil || e.at.Sub(s.since) > similarWindow {
		s = &similar{since: e.at, messages: map[string]bool{}}
		r.similar[key] = s
	}
	if s.messages[e.Message] || len(s.messages) < similarLimit {
		s.messages[e.Message] = true
		return e.Message
	}
	return "(combined from similar events): " + e.Reason
}

func (r *Events) allow(e stamped) bool {
	halve(r.budgets, memoryEvents)
	key := e.Component + "/" + string(e.Regarding.UID) + "/" + e.Regarding.Kind + "/" + e.Regarding.Namespace + "/" + e.Regarding.Name
	b := r.budgets[key]
	if b == nil {
		b = &budget{tokens: burstEvents, at: e.at}
		r.budgets[key] = b
	}
	b.tokens = min(burstEvents, b.tokens+float64(e.at.Sub(b.at))/float64(refillEvents))
	b.at = e.at
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func similarKey(e stamped) string {
	return fmt.Sprintf("%s/%s/%s/%s/%s/%s/%s", e.Component, e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name, types.UID(e.Regarding.UID), e.Type, e.Reason)
}

// halve forgets about half of m when it has limit entries: which ones does not matter, each is only worth a repetition.
func halve[V any](m map[string]V, limit int) {
	if len(m) < limit {
		return
	}
	for key := range m {
		if len(m) <= limit/2 {
			return
		}
		delete(m, key)
	}
}
