package automation_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

type (
	resourceType = resource.Resource
	objectType   = runtime.Object
)

// told reads the changes of config maps and secrets that are in the stream, as "verb name", in order.
func (c *cluster) told() (lines []string, changes []automation.Change) {
	c.t.Helper()
	stream, err := c.js.Stream(context.Background(), "EVENTS")
	if err != nil {
		return nil, nil
	}
	info, err := stream.Info(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(context.Background(), seq)
		if err != nil {
			c.t.Fatal(err)
		}
		var change automation.Change
		if err := json.Unmarshal(msg.Data, &change); err != nil {
			c.t.Fatal(err)
		}
		if change.Type != "RESYNC" && change.Kind != "configmaps" && change.Kind != "secrets" {
			continue
		}
		lines = append(lines, strings.ToLower(change.Type)+" "+change.Name)
		changes = append(changes, change)
		if verb := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]; verb != strings.ToLower(change.Type) {
			c.t.Errorf("subject %s tells of %s", msg.Subject, change.Type)
		}
	}
	return lines, changes
}

func (c *cluster) wantTold(want ...string) []automation.Change {
	c.t.Helper()
	var lines []string
	var changes []automation.Change
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if lines, changes = c.told(); strings.Join(lines, ", ") == strings.Join(want, ", ") {
			return changes
		}
	}
	c.t.Fatalf("told: %s\nwant: %s", strings.Join(lines, ", "), strings.Join(want, ", "))
	return nil
}

func (c *cluster) remove(name string) {
	c.t.Helper()
	if _, _, err := c.objects.Delete(context.Background(), resource.Lookup("", "v1", "configmaps"), "default", name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func TestEveryChangeIsTold(t *testing.T) {
	c := start(t)
	c.apply(configMap("before", "1"))
	c.events()
	c.wantTold("added before")
	c.apply(configMap("a", "1"))
	c.apply(configMap("a", "2"))
	c.wantTold("added before", "added a", "modified a") // or the deletion may take them out of the store untold
	c.remove("a")
	c.apply(configMap("a", "3"))
	changes := c.wantTold("added before", "added a", "modified a", "deleted a", "added a")
	if gone := changes[3]; !strings.Contains(string(gone.Object), `"key":"2"`) {
		t.Errorf("the deletion does not show the last state: %s", gone.Object)
	}
	for i := 1; i < len(changes); i++ {
		if changes[i].Revision <= changes[i-1].Revision {
			t.Errorf("revision %d after %d", changes[i].Revision, changes[i-1].Revision)
		}
	}
}

func TestRestartLeavesNoGapAndTellsNothingTwice(t *testing.T) {
	c := start(t)
	stop := c.events()
	c.apply(configMap("a", "1"))
	c.apply(configMap("b", "1"))
	c.wantTold("added a", "added b")
	stop()
	c.apply(configMap("a", "2"))
	c.remove("b")
	c.apply(configMap("c", "1"))
	c.events()
	c.wantTold("added a", "added b", "modified a", "deleted b", "added c")
}

func TestSecretsAreToldWithoutData(t *testing.T) {
	c := start(t)
	c.events()
	c.apply(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"default"},"stringData":{"password":"hunter2"}}`)
	changes := c.wantTold("added s")
	text := string(changes[0].Object)
	if !strings.Contains(text, `"kind":"Secret"`) || strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg") {
		t.Errorf("told: %s", text)
	}
}

// expiring is a store that has forgotten what happened since any revision.
type expiring struct{ *store.Store }

func (e expiring) Watch(ctx context.Context, o store.WatchOptions, handle func(store.Update) error) error {
	if o.From.Revision > 0 {
		return store.ErrExpired
	}
	return e.Store.Watch(ctx, o, handle)
}

func TestGapIsTold(t *testing.T) {
	c := start(t)
	stop := c.events()
	c.apply(configMap("old", "1"))
	c.apply(configMap("changed", "1"))
	c.wantTold("added old", "added changed")
	stop()
	c.apply(configMap("changed", "2"))
	c.remove("old")
	e, err := automation.NewEvents(automation.EventsConfig{JS: c.net.JetStream(), Source: expiring{c.store}, Storage: c.net.Storage})
	if err != nil {
		t.Fatal(err)
	}
	run(t, e.Run)
	c.wantTold("added old", "added changed", "resync ", "modified changed")
	c.apply(configMap("new", "1"))
	c.wantTold("added old", "added changed", "resync ", "modified changed", "added new")
}

// Two publishers at once, as when a deposed leader has not noticed yet, tell each change once.
func TestTwoPublishersTellOnce(t *testing.T) {
	c := start(t)
	c.events()
	c.events()
	want := []string{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		c.apply(configMap(name, "1"))
		want = append(want, "added "+name)
	}
	c.wantTold(want...)
}

func TestEventsSurviveALostConnection(t *testing.T) {
	c := start(t)
	c.events()
	c.apply(configMap("a", "1"))
	c.wantTold("added a")
	c.net.Cut("coordinator")
	c.net.Heal("coordinator")
	waitFor(t, "the store takes writes again", func() bool {
		_, err := c.js.AccountInfo(context.Background())
		return err == nil
	})
	c.apply(configMap("b", "1"))
	c.remove("a")
	c.wantTold("added a", "added b", "deleted a")
}

var configMaps = resource.ForObject((*corev1.ConfigMap)(nil))
