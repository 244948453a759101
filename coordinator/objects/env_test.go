package objects_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// env is a write path over a real JetStream store.
type env struct {
	*objects.Store
	view  *view.View
	state *store.Store
}

func newEnv(t testing.TB) *env { return newEnvWith(t, objects.Options{}) }

func newEnvWith(t testing.TB, o objects.Options) *env {
	t.Helper()
	n := natstest.Server(t)
	state, err := store.Open(t.Context(), n.JetStream(), store.Options{Storage: n.Storage})
	if err != nil {
		t.Fatal(err)
	}
	e := attach(t, state, o)
	if err := e.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// attach makes a write path, with its own view, over a store that others may write too.
func attach(t testing.TB, state *store.Store, o objects.Options) *env {
	t.Helper()
	v := view.New(state, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background()) // the view must outlive t.Context, which ends before clean-ups
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("view: %v", err)
		}
	})
	select {
	case <-v.Synced():
	case err := <-ended:
		ended <- err
		t.Fatalf("view ended: %v", err)
	}
	s, err := objects.New(v, state, o)
	if err != nil {
		t.Fatal(err)
	}
	return &env{Store: s, view: v, state: state}
}

// create stores obj or fails the test.
func create[T runtime.Object](t testing.TB, e *env, obj T) T {
	t.Helper()
	return must[T](t, obj)(e.Create(t.Context(), obj, objects.WriteOptions{}))
}

// must gives the result of a call as T, or fails the test. Its argument only says the type.
func must[T runtime.Object](t testing.TB, _ T) func(runtime.Object, error) T {
	return func(out runtime.Object, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		typed, ok := out.(T)
		if !ok {
			t.Fatalf("got a %T", out)
		}
		return typed
	}
}

func update[T runtime.Object](t testing.TB, e *env, obj T) T {
	t.Helper()
	out, _, err := e.Update(t.Context(), obj, objects.WriteOptions{})
	return must[T](t, obj)(out, err)
}

// get reads from the view, which must have it.
func get[T runtime.Object](t testing.TB, e *env, like T, namespace, name string) T {
	t.Helper()
	item, ok := e.view.Get(resource.ForObject(like), namespace, name)
	if !ok {
		t.Fatalf("%s/%s is not there", namespace, name)
	}
	typed, ok := item.Object.DeepCopyObject().(T)
	if !ok {
		t.Fatalf("got a %T", item.Object)
	}
	return typed
}

func gone(t testing.TB, e *env, like runtime.Object, namespace, name string) {
	t.Helper()
	if _, ok := e.view.Get(resource.ForObject(like), namespace, name); ok {
		t.Fatalf("%T %s/%s is still there", like, namespace, name)
	}
}

// parse reads one object from YAML.
func parse[T any](t testing.TB, text string) *T {
	t.Helper()
	obj := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// wantStatus checks an error: its reason, and words of its message.
func wantStatus(t testing.TB, err error, reason metav1.StatusReason, words ...string) {
	t.Helper()
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		t.Fatalf("got %v (%T), want a status error of reason %q", err, err, reason)
	}
	if status.ErrStatus.Reason != reason {
		t.Fatalf("got reason %q (%v), want %q", status.ErrStatus.Reason, err, reason)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q\nlacks %q", err, w)
		}
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: data}
}

const podYAML = `
metadata: {namespace: default, name: web}
spec:
  containers:
  - name: main
    image: registry.skerry/web:1
    resources: {requests: {cpu: 100m, memory: 16Mi}}
`

const deploymentYAML = `
metadata: {namespace: default, name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "registry.skerry/web:1", ports: [{containerPort: 80}]}
`
