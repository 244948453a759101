package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
)

// Timing of the shell.
const (
	// fold is the shortest time from the start of one pass to the start of the next: the first change of a burst is
	// planned at once, the rest together.
	fold = 5 * time.Millisecond
	// share bounds what planning takes of one core: a pass whose plans took long is not followed by the next one before
	// share times as long, so that a large cluster's steady changes are planned in larger bundles.
	share = 10
	// worth is how much sooner each change of a pass lets the next one follow, whatever share says: a pass that brought
	// many was not in vain, and writing them takes longer than planning did.
	worth = 2 * time.Millisecond
	// writers bounds the writes under way; the store commits what comes together with one sync.
	writers = 64
	// writeTimeout bounds one write, so that a store that hangs does not stop the others' plans for longer.
	writeTimeout = 10 * time.Second
	// shortest is the least time from one pass to the next that no change calls for.
	shortest = 10 * time.Millisecond
	// crashPause is how long a plan that panicked is left alone.
	crashPause = 30 * time.Second
)

// Source is the view that plans look at.
type Source interface {
	// Snapshot returns the state now, with the fleet's Liveness. A write that has returned is in it.
	Snapshot() *Snapshot
	// Changed returns a channel that gets a value after changes, among them a silent node's return, and its end. One
	// value may stand for many changes.
	Changed() (<-chan struct{}, func())
}

// Writer performs one change and returns the object as it is then, nil for Delete. Its errors are those of the API.
type Writer interface {
	Perform(ctx context.Context, c Change) (runtime.Object, error)
}

// Recorder takes events for people. It must not block.
type Recorder interface {
	Record(Event)
}

// Config is what a Shell needs.
type Config struct {
	Source      Source
	Writer      Writer
	Recorder    Recorder
	Controllers []Controller // run in this order on one snapshot
	// Finish completes the changes of a pass: the scheduler puts nodes into pods that are about to be created, and adds
	// its own changes. Nil leaves them as they are.
	Finish func(s *Snapshot, changes []Change, now time.Time) []Change
	Logger *slog.Logger
}

// Shell runs plans and performs what they ask for.
type Shell struct {
	Config
	plans  []*plan
	ledger *ledger
}

// plan is a controller and how its last run ended.
type plan struct {
	Controller
	seen    *Snapshot // what it last saw; nil makes it run
	wake    time.Time
	changes int       // that it asked for then
	paused  time.Time // not before
}

// New checks the configuration.
func New(c Config) (*Shell, error) {
	if c.Source == nil || c.Writer == nil || c.Recorder == nil || c.Logger == nil {
		return nil, errors.New("controller shell: source, writer, recorder and logger are needed")
	}
	s := &Shell{Config: c, ledger: newLedger()}
	for _, one := range c.Controllers {
		s.plans = append(s.plans, &plan{Controller: one})
	}
	return s, nil
}

// Run plans and writes until ctx ends, and returns when its writes have ended. It holds no state that matters: whoever
// runs it next finds everything in the snapshot.
func (s *Shell) Run(ctx context.Context) error {
	changed, stop := s.Source.Changed()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-timer.C:
		}
		started := time.Now()
		wake, planned, changes := s.pass(ctx, started)
		rest := max(fold, share*planned-time.Duration(changes)*worth)
		if !pause(ctx, rest-time.Since(started)) {
			return context.Cause(ctx)
		}
		if wake.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(wake), shortest))
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// pass runs the plans once and performs their changes. It returns when to pass again though nothing changes, how long the
// planning took, and how many changes it brought.
func (s *Shell) pass(ctx context.Context, now time.Time) (wake time.Time, planned time.Duration, made int) {
	snapshot := *s.Source.Snapshot()
	snapshot.Refused = s.ledger.refusals()
	var changes []Change
	for _, p := range s.plans {
		more, again := s.plan(p, &snapshot, now)
		changes = append(changes, more...)
		wake = Sooner(wake, again)
	}
	if s.Finish != nil {
		changes = s.Finish(&snapshot, changes, now)
	}
	due, held := s.ledger.due(changes, now)
	planned = time.Since(now)
	s.perform(ctx, due)
	return Sooner(Sooner(wake, held), s.ledger.retry(due)), planned, len(due)
}

// concerned reports whether anything that p reads differs from what it last saw.
func (p *plan) concerned(snapshot *Snapshot) bool {
	return snapshot.Changed(p.seen)&p.Reads != 0 || slices.ContainsFunc(p.Rest, func(kind schema.GroupKind) bool { return snapshot.differs(p.seen, kind) })
}

// plan runs p unless nothing that it reads changed.
func (s *Shell) plan(p *plan, snapshot *Snapshot, now time.Time) (changes []Change, wake time.Time) {
	asleep := p.wake.IsZero() || now.Before(p.wake)
	if p.seen != nil && asleep && p.changes == 0 && !p.concerned(snapshot) && !s.ledger.news {
		p.seen = snapshot // the same in all that it reads, and the older one need not be kept
		return nil, p.wake
	}
	if now.Before(p.paused) {
		return nil, p.paused
	}
	defer func() {
		if trouble := recover(); trouble != nil {
			p.paused = now.Add(crashPause)
			s.Logger.Error("plan panicked", "controller", p.Name, "panic", fmt.Sprint(trouble), "stack", string(debug.Stack()))
			changes, wake = nil, p.paused
		}
	}()
	began := time.Now()
	changes, wake = p.Plan(snapshot, now)
	p.paused = now.Add(max(p.Pace, time.Duration(p.Share)*time.Since(began)))
	p.seen, p.wake, p.changes = snapshot, wake, len(changes)
	return changes, wake
}

// perform writes the changes, those of one object in order, and returns when all have ended.
func (s *Shell) perform(ctx context.Context, changes []Change) {
	queues := map[string][]Change{}
	var order []string
	for _, c := range changes {
		name := objectKey(c)
		if _, known := queues[name]; !known {
			order = append(order, name)
		}
		queues[name] = append(queues[name], c)
	}
	slots := make(chan struct{}, writers) // one for each write under way
	var group sync.WaitGroup
	for _, name := range order {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			for _, c := range queues[name] {
				s.write(ctx, c)
			}
		})
	}
	group.Wait()
}

func (s *Shell) write(ctx context.Context, c Change) {
	if c.Verb == "" {
		s.record(c, nil)
		return
	}
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result, err := s.Writer.Perform(bounded, c)
	s.ledger.note(c, err, time.Now())
	switch {
	case err == nil:
		s.Logger.Debug("changed", "verb", string(c.Verb), "object", objectKey(c))
		s.record(c, result)
	case overtaken(c, err) || ctx.Err() != nil:
	default:
		s.Logger.Warn("change refused", "verb", string(c.Verb), "object", objectKey(c), "err", err)
		s.complain(c, err)
	}
}

// complain tells people about a refused create at its owner, where they look. A ReplicaSet and a ReplicationController
// say so themselves, in their status.
func (s *Shell) complain(c Change, err error) {
	o, ok := c.Object.(metav1.Object)
	if !ok || c.Verb != Create {
		return
	}
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind == ReplicaSetKind.Kind || owner.Kind == ReplicationControllerKind.Kind {
		return
	}
	s.Recorder.Record(Event{
		Regarding: corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: o.GetNamespace(), Name: owner.Name, UID: owner.UID},
		Type:      corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating: " + err.Error(), Component: api.ComponentController,
	})
}

// overtaken reports that somebody else was faster: the next plan sees what they did.
func overtaken(c Change, err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) && c.Verb != Create || apierrors.IsAlreadyExists(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// record passes the change's events on, with the UID of the object that was just created.
func (s *Shell) record(c Change, result runtime.Object) {
	for _, e := range c.Events {
		if made, ok := result.(Object); ok && e.Regarding.UID == "" && e.Regarding.Name == made.GetName() && e.Regarding.Namespace == made.GetNamespace() {
			e.Regarding.UID = made.GetUID()
			e.Regarding.ResourceVersion = made.GetResourceVersion()
		}
		s.Recorder.Record(e)
	}
}
