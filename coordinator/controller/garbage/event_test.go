package garbage

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

func TestEventsAgeByWhenTheyWereLastSeen(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	old, fresh := metav1.NewTime(now.Add(-2*time.Hour)), metav1.NewTime(now.Add(-time.Minute))
	event := func(name string, made, seen metav1.Time) controller.Object {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: made}, LastTimestamp: seen}
	}
	s := &controller.Snapshot{Others: map[schema.GroupKind][]controller.Object{eventKind: {
		event("old", old, old), event("old-but-repeated", old, fresh), event("fresh", fresh, fresh), event("old-never-repeated", old, metav1.Time{}),
	}}}
	changes, wake := planEvents(s, now, time.Hour)
	var names []string
	for _, c := range changes {
		e, ok := c.Object.(*corev1.Event)
		if !ok || c.Verb != controller.Delete {
			t.Fatalf("change %+v", c)
		}
		names = append(names, e.Name)
	}
	if want := "[old old-never-repeated]"; fmt.Sprint(names) != want {
		t.Errorf("removed %v, want %s", names, want)
	}
	if !wake.After(now) {
		t.Errorf("wakes at %s: events age without any change", wake)
	}
}

func TestEventsAreRemovedSomeAtATime(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var events []controller.Object
	for i := range 3 * eventBatch {
		events = append(events, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}})
	}
	s := &controller.Snapshot{Others: map[schema.GroupKind][]controller.Object{eventKind: events}}
	if changes, _ := planEvents(s, now, time.Hour); len(changes) != eventBatch {
		t.Errorf("%d removals at once, want %d", len(changes), eventBatch)
	}
}
