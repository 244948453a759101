package view_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

// feed is a source that a test writes by hand.
type feed struct {
	updates chan store.Update
	taken   chan struct{}
}

func (f *feed) Watch(ctx context.Context, _ store.WatchOptions, handle func(store.Update) error) error {
	for {
		select {
		case u := <-f.updates:
			if err := handle(u); err != nil {
				return err
			}
			f.taken <- struct{}{}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *feed) send(u store.Update) {
	f.updates <- u
	<-f.taken
}

// complete and change are the two sorts of updates; their revision is that of the last entry unless given.
func (f *feed) complete(revision uint64, entries ...store.Entry) {
	f.send(store.Update{Complete: true, Entries: entries, Cursor: store.Cursor{Revision: revision}})
}

func (f *feed) change(entries ...store.Entry) {
	f.send(store.Update{Entries: entries, Cursor: store.Cursor{Revision: entries[len(entries)-1].Revision}})
}

func start(t testing.TB, o ...view.Option) (*view.View, *feed) {
	t.Helper()
	f := &feed{updates: make(chan store.Update), taken: make(chan struct{})}
	v := view.New(f, slog.New(slog.DiscardHandler), o...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return v, f
}

func put(t testing.TB, revision uint64, namespace, name, data string) store.Entry {
	t.Helper()
	value, err := resource.Encode(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"x": data}}, Data: map[string]string{"d": data},
	})
	if err != nil {
		t.Fatal(err)
	}
	return store.Entry{Key: store.Key{Kind: "configmaps", Namespace: namespace, Name: name}, Value: value, Revision: revision}
}

func del(revision uint64, namespace, name string) store.Entry {
	return store.Entry{Key: store.Key{Kind: "configmaps", Namespace: namespace, Name: name}, Revision: revision, Deleted: true}
}

func configMaps(t testing.TB) *resource.Resource {
	t.Helper()
	return resource.Lookup("", "v1", "configmaps")
}

// text lists items as namespace/name=data@revision.
func text(items []*view.Item) string {
	var out []string
	for _, i := range items {
		out = append(out, itemText(i))
	}
	return strings.Join(out, " ")
}

func itemText(i *view.Item) string {
	if i == nil {
		return "-"
	}
	return fmt.Sprintf("%s/%s=%s@%s", i.Meta.GetNamespace(), i.Meta.GetName(), i.Meta.GetLabels()["x"], i.Meta.GetResourceVersion())
}

// take drains a watch as text: TYPE item <- previous.
func take(t testing.TB, w *view.Watch) string {
	t.Helper()
	events, _, err := w.Take()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s %s <- %s", e.Type, itemText(e.Item), itemText(e.Previous)))
	}
	return strings.Join(out, "; ")
}

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func list(t testing.TB, v *view.View, namespace string) string {
	t.Helper()
	items, _ := v.List(configMaps(t), namespace)
	return text(items)
}

func TestReads(t *testing.T) {
	v, f := start(t)
	select {
	case <-v.Synced():
		t.Fatal("synced before the first set")
	default:
	}
	f.complete(9, put(t, 7, "b", "y", "1"), put(t, 5, "a", "x", "1"), put(t, 6, "a", "w", "1"))
	<-v.Synced()
	want(t, "all", list(t, v, ""), "a/w=1@6 a/x=1@5 b/y=1@7")
	want(t, "one namespace", list(t, v, "a"), "a/w=1@6 a/x=1@5")
	want(t, "no such namespace", list(t, v, "aa"), "")
	if v.Revision() != 9 {
		t.Errorf("revision %d", v.Revision())
	}
	before, _ := v.List(configMaps(t), "")
	f.change(put(t, 10, "a", "x", "2"), put(t, 11, "a", "z", "1"), del(12, "b", "y"))
	want(t, "a list given out earlier", text(before), "a/w=1@6 a/x=1@5 b/y=1@7")
	want(t, "after changes", list(t, v, ""), "a/w=1@6 a/x=2@10 a/z=1@11")
	f.change(put(t, 10, "a", "x", "2"), del(9, "a", "z"))
	want(t, "after repetitions", list(t, v, ""), "a/w=1@6 a/x=2@10 a/z=1@11")
	item, ok := v.Get(configMaps(t), "a", "x")
	if !ok {
		t.Fatal("not there")
	}
	first, err := item.JSON()
	if err != nil || !strings.Contains(string(first), `"resourceVersion":"10"`) || !strings.Contains(string(first), `"kind":"ConfigMap","apiVersion":"v1"`) {
		t.Errorf("json %s, err %v", first, err)
	}
	if second, _ := item.JSON(); &second[0] != &first[0] {
		t.Error("encoded twice")
	}
	if _, ok := v.Get(configMaps(t), "b", "y"); ok || v.Len(configMaps(t)) != 3 {
		t.Error("deleted object is there")
	}
}

func TestUnreadableValuesHideThemselvesOnly(t *testing.T) {
	v, f := start(t)
	bad := put(t, 3, "a", "bad", "")
	bad.Value = []byte("k8s\x00garbage")
	foreign := put(t, 4, "a", "foreign", "")
	foreign.Kind = "gadgets.example.com"
	misplaced := put(t, 5, "a", "one", "")
	misplaced.Name = "another"
	f.complete(6, bad, put(t, 2, "a", "good", "1"), foreign, misplaced)
	want(t, "list", list(t, v, ""), "a/good=1@2")
	broken := put(t, 7, "a", "good", "")
	broken.Value = nil
	f.change(broken, put(t, 8, "a", "next", "1"))
	want(t, "after a good one broke", list(t, v, ""), "a/next=1@8")
}

func TestWait(t *testing.T) {
	v, f := start(t)
	f.complete(3)
	if err := v.Wait(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- v.Wait(t.Context(), 5) }()
	f.change(put(t, 4, "a", "x", "1"))
	select {
	case err := <-ended:
		t.Fatalf("wait for 5 ended at 4: %v", err)
	default:
	}
	f.change(put(t, 6, "a", "x", "2"))
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Wait(ctx, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestChanged(t *testing.T) {
	v, f := start(t)
	changes, stop := v.Changed()
	f.complete(1)
	f.change(put(t, 2, "a", "x", "1"))
	<-changes // one token for both
	select {
	case <-changes:
		t.Error("tokens pile up")
	default:
	}
	stop()
	f.change(put(t, 3, "a", "x", "2"))
	select {
	case <-changes:
		t.Error("woken after stop")
	default:
	}
}

func TestWatch(t *testing.T) {
	v, f := start(t)
	f.complete(3, put(t, 2, "a", "x", "1"))
	w := watchFrom(t, v, "", 3)
	b := watchFrom(t, v, "b", 3)
	f.change(put(t, 4, "a", "x", "2"), put(t, 5, "b", "y", "1"))
	<-w.Ready()
	want(t, "all", take(t, w), "MODIFIED a/x=2@4 <- a/x=1@2; ADDED b/y=1@5 <- -")
	want(t, "one namespace", take(t, b), "ADDED b/y=1@5 <- -")
	f.change(del(6, "a", "x"))
	want(t, "deletion", take(t, w), "DELETED a/x=2@6 <- a/x=2@4")
	want(t, "nothing new", take(t, w), "")
	want(t, "other namespace", take(t, b), "")
	if b.Revision() != 6 {
		t.Errorf("bookmark %d of a quiet watch, want 6", b.Revision())
	}
	want(t, "resumed", take(t, watchFrom(t, v, "", 4)), "ADDED b/y=1@5 <- -; DELETED a/x=2@6 <- a/x=2@4")
	w.Stop()
	w.Stop()
	items, revision, lw := v.ListWatch(configMaps(t), "")
	f.change(put(t, 7, "c", "z", "1"))
	want(t, "list", text(items), "b/y=1@5")
	want(t, "what follows the list", take(t, lw), "ADDED c/z=1@7 <- -")
	if revision != 6 {
		t.Errorf("list at %d, want 6", revision)
	}
}

func watchFrom(t testing.TB, v *view.View, namespace string, from uint64) *view.Watch {
	t.Helper()
	w, err := v.Watch(configMaps(t), namespace, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func TestWatchExpires(t *testing.T) {
	v, f := start(t, view.History(3))
	f.complete(10, put(t, 2, "a", "x", "1"))
	expired := func(from uint64) {
		t.Helper()
		if _, err := v.Watch(configMaps(t), "", from); !errors.Is(err, view.ErrExpired) {
			t.Errorf("watch from %d: %v, want ErrExpired", from, err)
		}
	}
	expired(9)  // before the first set: deletions are unknown
	expired(11) // not seen yet
	slow, fast := watchFrom(t, v, "", 10), watchFrom(t, v, "", 10)
	for n := range uint64(3) {
		f.change(put(t, 11+n, "a", "x", fmt.Sprint(n)))
	}
	want(t, "at the edge", take(t, fast), "MODIFIED a/x=0@11 <- a/x=1@2; MODIFIED a/x=1@12 <- a/x=0@11; MODIFIED a/x=2@13 <- a/x=1@12")
	f.change(put(t, 14, "a", "x", "3"))
	if _, _, err := slow.Take(); !errors.Is(err, view.ErrExpired) {
		t.Errorf("slow watcher: %v, want ErrExpired", err)
	}
	want(t, "fast watcher", take(t, fast), "MODIFIED a/x=3@14 <- a/x=2@13")
	expired(10)
	want(t, "from the oldest kept", take(t, watchFrom(t, v, "", 11)), "MODIFIED a/x=1@12 <- a/x=0@11; MODIFIED a/x=2@13 <- a/x=1@12; MODIFIED a/x=3@14 <- a/x=2@13")
}

// After a gap, and after the store was made anew with lower revisions, watchers must hear exactly what differs.
func TestReset(t *testing.T) {
	for _, test := range []struct {
		name     string
		revision uint64
		entries  func(t *testing.T) []store.Entry
		events   string
		list     string
	}{
		{"gap", 20, func(t *testing.T) []store.Entry {
			return []store.Entry{put(t, 2, "a", "same", "1"), put(t, 15, "a", "new", "1"), put(t, 14, "a", "other", "2")}
		}, "MODIFIED a/other=2@14 <- a/other=1@3; ADDED a/new=1@15 <- -; DELETED a/lost=1@20 <- a/lost=1@4", "a/new=1@15 a/other=2@14 a/same=1@2"},
		{"new store", 3, func(t *testing.T) []store.Entry {
			return []store.Entry{put(t, 1, "a", "other", "9"), put(t, 2, "a", "same", "1")}
		}, "MODIFIED a/other=9@1 <- a/other=1@3; MODIFIED a/same=1@2 <- a/same=1@2; DELETED a/lost=1@3 <- a/lost=1@4", "a/other=9@1 a/same=1@2"},
		{"empty store", 0, func(*testing.T) []store.Entry { return nil }, "DELETED a/lost=1@0 <- a/lost=1@4; DELETED a/other=1@0 <- a/other=1@3; DELETED a/same=1@0 <- a/same=1@2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, f := start(t)
			f.complete(10, put(t, 2, "a", "same", "1"), put(t, 3, "a", "other", "1"), put(t, 4, "a", "lost", "1"))
			w := watchFrom(t, v, "", 10)
			f.complete(test.revision, test.entries(t)...)
			want(t, "events", take(t, w), test.events)
			want(t, "list", list(t, v, ""), test.list)
			if v.Revision() != test.revision {
				t.Errorf("revision %d", v.Revision())
			}
			if test.revision != 10 {
				if _, err := v.Watch(configMaps(t), "", 10); !errors.Is(err, view.ErrExpired) {
					t.Errorf("resume over the reset: %v, want ErrExpired", err)
				}
			}
		})
	}
}

func TestSnapshot(t *testing.T) {
	v, f := start(t)
	pod := func(revision uint64, name string) store.Entry {
		value, err := resource.Encode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		return store.Entry{Key: store.Key{Kind: "pods", Namespace: "a", Name: name}, Value: value, Revision: revision}
	}
	f.complete(3, pod(2, "y"), pod(1, "x"), put(t, 3, "a", "m", "1"))
	started := time.Unix(100, 0)
	live := map[string]controller.Liveness{"n1": {Boot: "b"}}
	first := v.Snapshot(live, started)
	if first.Revision != 3 || len(first.Pods) != 2 || first.Pods[0].Name != "x" || first.Pods[0].ResourceVersion != "1" || first.Started != started || first.Liveness["n1"].Boot != "b" {
		t.Errorf("snapshot %+v", first)
	}
	maps := schema.GroupKind{Kind: "ConfigMap"}
	if len(first.Others[maps]) != 1 || !first.Knows(schema.GroupKind{Group: "coordination.k8s.io", Kind: "Lease"}) {
		t.Errorf("others %v", first.Others)
	}
	f.change(put(t, 4, "a", "m", "2"))
	second := v.Snapshot(live, started)
	if got := second.Changed(first); got != controller.Others {
		t.Errorf("changed %b, want only Others", got)
	}
	f.change(pod(5, "x"))
	third := v.Snapshot(live, started)
	if got := third.Changed(second); got != controller.Pods {
		t.Errorf("changed %b, want only Pods", got)
	}
	if second.Pods[0].ResourceVersion != "1" {
		t.Error("an older snapshot changed")
	}
}

func TestRunEnds(t *testing.T) {
	broken := errors.New("broken")
	v := view.New(failing{broken}, slog.New(slog.DiscardHandler))
	if err := v.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("run: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Watch(context.Context, store.WatchOptions, func(store.Update) error) error {
	return f.err
}

// Readers, watchers and the feeder at once: each watcher sees every revision once and in order.
func TestConcurrentReaders(t *testing.T) {
	v, f := start(t)
	f.complete(1)
	const last, watchers = 400, 4
	ended := make(chan error, watchers)
	for range watchers {
		w := watchFrom(t, v, "", 1)
		go func() { ended <- follow(w, last) }()
	}
	for n := uint64(2); n <= last; n++ {
		f.change(put(t, n, "a", fmt.Sprint(n%7), fmt.Sprint(n)))
		items, _ := v.List(configMaps(t), "a")
		if !slices.IsSortedFunc(items, func(a, b *view.Item) int { return strings.Compare(a.Meta.GetName(), b.Meta.GetName()) }) {
			t.Fatal("unsorted")
		}
	}
	for range watchers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func follow(w *view.Watch, last uint64) error {
	seen := uint64(1)
	for seen < last {
		<-w.Ready()
		events, _, err := w.Take()
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Item.Revision != seen+1 {
				return fmt.Errorf("revision %d after %d", e.Item.Revision, seen)
			}
			seen = e.Item.Revision
		}
	}
	return nil
}

// Old history goes, watches that run go on, and JSON stays as long as it is asked for.
func TestTidy(t *testing.T) {
	for _, limit := range []int{2, 100} {
		v, f := start(t, view.History(limit))
		f.complete(1)
		f.change(put(t, 2, "a", "x", "1"), put(t, 3, "a", "x", "2"), put(t, 4, "a", "x", "3"))
		w, err := v.Watch(configMaps(t), "", 4)
		if err != nil {
			t.Fatal(err)
		}
		v.Tidy(time.Now())
		if _, err := v.Watch(configMaps(t), "", 3); err != nil {
			t.Errorf("history of %d: a change just made is not kept: %v", limit, err)
		}
		v.Tidy(time.Now().Add(time.Hour))
		if _, err := v.Watch(configMaps(t), "", 3); !errors.Is(err, view.ErrExpired) {
			t.Errorf("history of %d: a change of an hour ago is kept: %v", limit, err)
		}
		f.change(put(t, 5, "a", "x", "4"), put(t, 6, "a", "x", "5"))
		want(t, "a watch that runs", take(t, w), "MODIFIED a/x=4@5 <- a/x=3@4; MODIFIED a/x=5@6 <- a/x=4@5")
		late, err := v.Watch(configMaps(t), "", 5)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "a watch that resumes", take(t, late), "MODIFIED a/x=5@6 <- a/x=4@5")
	}
}

func TestTidyForgetsJSON(t *testing.T) {
	v, f := start(t)
	f.complete(1, put(t, 1, "a", "x", "1"))
	encoded := func() *byte {
		item, _ := v.Get(configMaps(t), "a", "x")
		data, err := item.JSON()
		if err != nil {
			t.Fatal(err)
		}
		return &data[0]
	}
	first := encoded()
	v.Tidy(time.Now())
	if encoded() != first {
		t.Error("JSON that is asked for was made again")
	}
	v.Tidy(time.Now())
	v.Tidy(time.Now())
	if encoded() == first {
		t.Error("JSON that nobody asked for was kept")
	}
}

// A store that was set back has revisions that the view has seen with another meaning: they neither hide nor show changes.
func TestHistoryOfAnotherLife(t *testing.T) {
	v, f := start(t, view.History(3))
	f.complete(100, put(t, 100, "a", "x", "1"))
	f.change(put(t, 101, "a", "x", "2"), put(t, 102, "a", "x", "3"))
	f.complete(5, put(t, 5, "a", "x", "9"))
	for revision := uint64(6); revision < 12; revision++ {
		f.change(put(t, revision, "a", "x", "n"))
		if _, err := v.Watch(configMaps(t), "", revision); err != nil {
			t.Errorf("at revision %d: %v", revision, err)
		}
		late, err := v.Watch(configMaps(t), "", revision-1)
		if err != nil {
			t.Fatalf("from revision %d: %v", revision-1, err)
		}
		if got := take(t, late); !strings.HasPrefix(got, fmt.Sprintf("MODIFIED a/x=n@%d <-", revision)) || strings.Contains(got, ";") {
			t.Errorf("from revision %d: %s", revision-1, got)
		}
	}
}
