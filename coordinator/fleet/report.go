package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

// Recorder records an event that a node reported.
type Recorder interface {
	Record(ctx context.Context, event messaging.EventReport, node string) error
}

// Reports merges what nodes publish on stream UP into the API's objects. A node may speak of itself and of pods bound to
// it; anything else is dropped. Reports are acknowledged when merged, so that none is lost with the coordinator, and
// merging one twice changes nothing.
type Reports struct {
	view    *view.View
	objects *objects.Store
	events  Recorder
	log     *slog.Logger
	stream  *upStream
	seen    map[string]mark // newest report known, by subject; belongs to Run's goroutine
}

// mark is the place of a report among those of its subject: where it is in the stream, and what its node has numbered it
// within a boot.
type mark struct {
	stream uint64
	boot   string
	seq    uint64
}

// NewReports returns a merger that has merged nothing.
func NewReports(v *view.View, o *objects.Store, events Recorder, log *slog.Logger) *Reports {
	return &Reports{view: v, objects: o, events: events, log: log, seen: map[string]mark{}}
}

const (
	upMaxAge      = 24 * time.Hour
	upDuplicates  = 2 * time.Minute
	batchSize     = 256 // reports merged together; the newest of a subject stands for all of them
	mergeParallel = 8
	mergeRetry    = time.Second
)

// Run makes stream UP in that kind of storage, and merges until ctx ends.
func (r *Reports) Run(ctx context.Context, js jetstream.JetStream, storage jetstream.StorageType) error {
	up, err := openUp(ctx, js, storage, r.log)
	if err != nil {
		return err
	}
	r.stream = up
	// The channel holds a batch: the fetcher reads on while the last batch is merged.
	messages := make(chan jetstream.Msg, batchSize)
	reading, err := up.consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return fmt.Errorf("consume %s: %w", messaging.StreamUp, err)
	}
	defer reading.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-messages:
			r.merge(ctx, gather(m, messages))
		}
	}
}

// gather takes what is there without waiting.
func gather(first jetstream.Msg, messages <-chan jetstream.Msg) []jetstream.Msg {
	batch := []jetstream.Msg{first}
	for len(batch) < batchSize {
		select {
		case m := <-messages:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// merge merges a batch: of each subject the newest report, but every event.
func (r *Reports) merge(ctx context.Context, batch []jetstream.Msg) {
	newest := map[string]int{}
	for i, m := range batch {
		newest[m.Subject()] = i
	}
	var g errgroup.Group
	g.SetLimit(mergeParallel)
	for i, m := range batch {
		if newest[m.Subject()] != i && !isEvent(m.Subject()) {
			r.ack(m)
			continue
		}
		if r.stale(ctx, m) {
			r.ack(m)
			continue
		}
		g.Go(func() error { r.mergeOne(ctx, m); return nil })
	}
	_ = g.Wait() // never an error: mergeOne settles each message
}

// mergeOne merges a report and settles its message: acknowledged when merged or when it never can be, else handed out
// again after a pause.
func (r *Reports) mergeOne(ctx context.Context, m jetstream.Msg) {
	err := r.apply(ctx, m.Subject(), m.Data())
	switch {
	case err == nil:
		r.ack(m)
	case ctx.Err() != nil: // handed out again to the next coordinator
	case permanent(err):
		r.log.Warn("report dropped", "subject", m.Subject(), "err", err)
		r.ack(m)
	default:
		r.log.Warn("report not merged, will retry", "subject", m.Subject(), "err", err)
		if err := m.NakWithDelay(mergeRetry); err != nil {
			r.log.Warn("report not handed back", "subject", m.Subject(), "err", err)
		}
	}
}

func (r *Reports) ack(m jetstream.Msg) {
	if err := m.Ack(); err != nil {
		r.log.Warn("report not acknowledged, will be merged again", "subject", m.Subject(), "err", err)
	}
}

// stale says whether there is a newer report of the same subject: what the coordinator before had taken and not merged is
// handed out again behind what it has merged, and must not undo that.
func (r *Reports) stale(ctx context.Context, m jetstream.Msg) bool {
	place, err := m.Metadata()
	if err != nil || isEvent(m.Subject()) {
		return false // apply says what is wrong with it
	}
	now := mark{stream: place.Sequence.Stream}
	now.boot, now.seq = numbered(m.Data())
	last, known := r.seen[m.Subject()]
	if !known && place.Sequence.Stream <= r.stream.old {
		last.stream = r.stream.newest(ctx, m.Subject())
	}
	if now.stream < last.stream || now.boot == last.boot && now.seq < last.seq {
		r.seen[m.Subject()] = last
		return true
	}
	r.seen[m.Subject()] = now
	return false
}

// numbered is what the node has numbered its report.
func numbered(data []byte) (boot string, seq uint64) {
	var s struct {
		Boot string `json:"boot"`
		Seq  uint64 `json:"seq"`
	}
	if json.Unmarshal(data, &s) != nil {
		return "", 0 // apply says what is wrong with it
	}
	return s.Boot, s.Seq
}

func isEvent(subject string) bool {
	parts := strings.Split(subject, ".")
	return len(parts) == 6 && parts[4] == "event"
}

// dropError marks a report that will never be merged.
type dropError struct{ reason string }

func (e *dropError) Error() string { return e.reason }

func drop(format string, args ...any) error { return &dropError{reason: fmt.Sprintf(format, args...)} }

func permanent(err error) bool {
	var d *dropError
	switch {
	case asDrop(err, &d):
		return true
	case apierrors.IsInvalid(err), apierrors.IsNotFound(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
		return true
	}
	return false
}

func (r *Reports) apply(ctx context.Context, subject string, data []byte) error {
	parts := strings.Split(subject, ".") // skerry v1 up <node> <kind> <id>
	if len(parts) != 6 {
		return drop("subject has %d parts", len(parts))
	}
	node, err := messaging.ParseToken(parts[3])
	if err != nil {
		return drop("%v", err)
	}
	switch parts[4] {
	case "pod":
		return decodeThen(data, func(p messaging.PodReport) error { return r.pod(ctx, node, p) })
	case "node":
		return decodeThen(data, func(p messaging.NodeReport) error { return r.node(ctx, node, p) })
	case "inventory":
		return decodeThen(data, func(p messaging.InventoryReport) error { return r.inventory(ctx, node, p) })
	case "volume":
		return decodeThen(data, func(v messaging.VolumeReport) error { return r.discarded(ctx, node, v) })
	case "event":
		return decodeThen(data, func(p messaging.EventReport) error { return r.event(ctx, node, p) })
	}
	return drop("unknown kind of report %q", parts[4])
}

func decodeThen[T any](data []byte, then func(T) error) error {
	var report T
	if err := json.Unmarshal(data, &report); err != nil {
		return drop("unreadable: %v", err)
	}
	return then(report)
}

// ownPod finds the pod that a node speaks of; ok is false when it is gone or another of the same name.
func (r *Reports) ownPod(node, namespace, name, uid string) (pod *corev1.Pod, ok bool, err error) {
	pod, ok = get[*corev1.Pod](r.view, namespace, name)
	if !ok || string(pod.UID) != uid {
		return nil, false, nil
	}
	if pod.Spec.NodeName != node {
		return nil, false, drop("node %s reports pod %s/%s, which is bound to %q", node, namespace, name, pod.Spec.NodeName)
	}
	return pod, true, nil
}

func (r *Reports) pod(ctx context.Context, node string, report messaging.PodReport) error {
	pod, ok, err := r.ownPod(node, report.Namespace, report.Name, report.UID)
	if err != nil || !ok {
		return err
	}
	if report.Gone && pod.DeletionTimestamp != nil {
		if err := r.lastWords(ctx, pod, report); err != nil {
			return err
		}
		return r.objects.FinishPod(ctx, report.Namespace, report.Name, pod.UID, false)
	}
	var status corev1.PodStatus
	if err := status.Unmarshal(report.Status); err != nil {
		return drop("status of pod %s/%s unreadable: %v", report.Namespace, report.Name, err)
	}
	_, err = r.objects.MutateStatus(ctx, resource.ForObject(pod), report.Namespace, report.Name, func(obj runtime.Object) bool {
		p, ok := obj.(*corev1.Pod)
		if !ok || p.UID != pod.UID {
			return false
		}
		p.Status = mergePodStatus(p.Status, status)
		return true
	})
	return err
}

// lastWords makes a pod that has stopped say how it ended if its finalizers keep it: whoever waits for it counts it. One
// whose end is not known has failed.
func (r *Reports) lastWords(ctx context.Context, pod *corev1.Pod, report messaging.PodReport) error {
	if len(pod.Finalizers) == 0 {
		return nil
	}
	var status corev1.PodStatus
	if err := status.Unmarshal(report.Status); err != nil {
		return drop("status of pod %s/%s unreadable: %v", report.Namespace, report.Name, err)
	}
	_, err := r.objects.MutateStatus(ctx, resource.ForObject(pod), report.Namespace, report.Name, func(obj runtime.Object) bool {
		p, ok := obj.(*corev1.Pod)
		if !ok || p.UID != pod.UID || ended(p.Status) {
			return false
		}
		if status.Phase != "" {
			p.Status = mergePodStatus(p.Status, status)
		}
		if !ended(p.Status) {
			p.Status.Phase = corev1.PodFailed
		}
		return true
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func ended(s corev1.PodStatus) bool {
	return s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
}

// mergePodStatus takes the node's word for everything but the conditions that are others' to write: PodScheduled, and
// whatever the node does not mention (readiness gates, disruption).
func mergePodStatus(have, report corev1.PodStatus) corev1.PodStatus {
	out := report
	out.QOSClass, out.NominatedNodeName = have.QOSClass, have.NominatedNodeName
	out.Conditions = nil
	for _, c := range report.Conditions {
		if c.Type != corev1.PodScheduled {
			out.Conditions = append(out.Conditions, c)
		}
	}
	for _, c := range have.Conditions {
		if !hasPodCondition(out.Conditions, c.Type) {
			out.Conditions = append(out.Conditions, c)
		}
	}
	return out
}

func hasPodCondition(conditions []corev1.PodCondition, kind corev1.PodConditionType) bool {
	for _, c := range conditions {
		if c.Type == kind {
			return true
		}
	}
	return false
}

func (r *Reports) inventory(ctx context.Context, node string, report messaging.InventoryReport) error {
	var inventory api.Inventory
	if err := json.Unmarshal(report.Inventory, &inventory); err != nil {
		return drop("inventory of %s unreadable: %v", node, err)
	}
	old, ok := get[*api.NodeInventory](r.view, "", node)
	if !ok {
		fresh := &api.NodeInventory{ObjectMeta: metav1.ObjectMeta{Name: node}, Inventory: inventory}
		if owner, ok := get[*corev1.Node](r.view, "", node); ok {
			fresh.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: owner.UID}}
		}
		_, err := r.objects.Create(ctx, fresh, objects.WriteOptions{FieldManager: api.ComponentAgent})
		return err
	}
	changed := old.DeepCopy()
	changed.Inventory = inventory
	_, _, err := r.objects.Update(ctx, changed, objects.WriteOptions{FieldManager: api.ComponentAgent})
	return err
}

func (r *Reports) event(ctx context.Context, node string, report messaging.EventReport) error {
	_, ok, err := r.ownPod(node, report.Namespace, report.Pod, report.UID)
	if err != nil || !ok {
		return err
	}
	return r.events.Record(ctx, report, node)
}
