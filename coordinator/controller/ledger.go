package controller

import (
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// How the shell slows down.
const (
	firstDelay = 50 * time.Millisecond // after the first refusal; it doubles with each further one
	lastDelay  = 30 * time.Second
	// patience is how often in a row a change may be overtaken before it is slowed down too.
	patience = 3
	// writesPerSecond bounds successful writes of one kind to one object: more means that plans disagree.
	writesPerSecond = 50
)

// ledger remembers which changes failed, so that they are tried again later and not at once, and which changes succeed
// suspiciously often. Creates count by the controller they are for, since every attempt has another name.
type ledger struct {
	mu      sync.Mutex
	trouble map[string]trouble
	pace    map[string]pace
	refused map[types.UID]string
	news    bool // refused changed since the last pass; read and cleared by the shell's own goroutine
	changed bool
}

type trouble struct {
	count int
	until time.Time
}

type pace struct {
	since time.Time
	count int
}

func newLedger() *ledger {
	return &ledger{trouble: map[string]trouble{}, pace: map[string]pace{}, refused: map[types.UID]string{}}
}

// refusals is the snapshot's Refused; news tells whether it differs from that of the last pass.
func (l *ledger) refusals() map[types.UID]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news, l.changed = l.changed, false
	return maps.Clone(l.refused)
}

// due returns the changes that may be performed now, and when the first of the others may. After a refusal one create on
// behalf of a controller goes ahead alone; the others follow when it succeeded.
func (l *ledger) due(changes []Change, now time.Time) (due []Change, held time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(changes, now)
	probing := map[string]bool{}
	for _, c := range changes {
		key := changeKey(c)
		t, troubled := l.trouble[key]
		switch {
		case troubled && now.Before(t.until):
			held = Sooner(held, t.until)
		case troubled && c.Verb == Create && probing[key]:
		default:
			probing[key] = troubled
			if until := l.hasty(key, now); !until.IsZero() {
				held = Sooner(held, until)
				continue
			}
			due = append(due, c)
		}
	}
	return due, held
}

// hasty returns until when a change that was made too often waits.
func (l *ledger) hasty(key string, now time.Time) time.Time {
	if p := l.pace[key]; p.count >= writesPerSecond && now.Sub(p.since) < time.Second {
		return p.since.Add(time.Second)
	}
	return time.Time{}
}

// forget drops what no plan asks for any more.
func (l *ledger) forget(changes []Change, now time.Time) {
	wanted := make(map[string]bool, len(changes))
	for _, c := range changes {
		wanted[changeKey(c)] = true
	}
	maps.DeleteFunc(l.trouble, func(key string, t trouble) bool { return !wanted[key] && now.Sub(t.until) > lastDelay })
	maps.DeleteFunc(l.pace, func(_ string, p pace) bool { return now.Sub(p.since) > time.Second })
}

// retry is when the first of the changes that failed may be tried again.
func (l *ledger) retry(changes []Change) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first time.Time
	for _, c := range changes {
		if t, failed := l.trouble[changeKey(c)]; failed {
			first = Sooner(first, t.until)
		}
	}
	return first
}

// note books how a write ended.
func (l *ledger) note(c Change, err error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := changeKey(c)
	if err == nil {
		delete(l.trouble, key)
		l.refuse(c, "")
		if c.Verb != Create {
			l.step(key, now)
		}
		return
	}
	t := l.trouble[key]
	t.count++
	t.until = now.Add(delay(t.count))
	if overtaken(c, err) {
		t.until = now.Add(delay(t.count - patience))
	} else if !apierrors.IsTimeout(err) && !apierrors.IsServiceUnavailable(err) {
		l.refuse(c, err.Error())
	}
	l.trouble[key] = t
}

func (l *ledger) step(key string, now time.Time) {
	p := l.pace[key]
	if now.Sub(p.since) >= time.Second {
		p = pace{since: now}
	}
	p.count++
	l.pace[key] = p
}

// refuse keeps the words of a refused create for the controller on whose behalf it was.
func (l *ledger) refuse(c Change, words string) {
	owner := ownerOf(c)
	if c.Verb != Create || owner == "" || l.refused[owner] == words {
		return
	}
	l.changed = true
	if words == "" {
		delete(l.refused, owner)
	} else {
		l.refused[owner] = words
	}
}

func delay(count int) time.Duration {
	if count <= 0 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(count-1, 16))
}

func ownerOf(c Change) types.UID {
	o, ok := c.Object.(metav1.Object)
	if !ok {
		return ""
	}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return ref.UID
	}
	return ""
}

func changeKey(c Change) string {
	if owner := ownerOf(c); c.Verb == Create && owner != "" {
		return fmt.Sprintf("create %T for %s", c.Object, owner)
	}
	return string(c.Verb) + " " + objectKey(c)
}

// objectKey names the change's object; events alone are of one object.
func objectKey(c Change) string {
	o, ok := c.Object.(metav1.Object)
	if !ok {
		return "event"
	}
	return reflect.TypeOf(c.Object).Elem().Name() + " " + o.GetNamespace() + "/" + o.GetName()
}
