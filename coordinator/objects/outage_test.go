package objects_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// While the store cannot be reached, reads go on and writes fail with an error that tells clients to try again; a service
// address whose fate is unknown is not given to another. Afterwards everything works, and nothing was lost.
func TestStoreOutOfReach(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		state, err := store.Open(t.Context(), n.JetStream(), store.Options{Storage: n.Storage})
		if err != nil {
			t.Fatal(err)
		}
		e := attach(t, state, objects.Options{})
		if err := e.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		create(t, e, configMap("a", nil))
		n.Cut(natstest.CoordinatorLink)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, lost := e.Create(ctx, clusterService("lost", "10.43.7.7"), objects.WriteOptions{})
		if !apierrors.IsServiceUnavailable(lost) && !apierrors.IsServerTimeout(lost) {
			t.Errorf("create while cut off: %v", lost)
		}
		get(t, e, &corev1.ConfigMap{}, "default", "a")
		n.Heal(natstest.CoordinatorLink)
		eventually(t, e, "b")
		_, err = e.Create(t.Context(), clusterService("next", "10.43.7.7"), objects.WriteOptions{})
		if apierrors.IsServiceUnavailable(lost) && err != nil {
			t.Errorf("an address that was surely not written is not free: %v", err)
		}
		if apierrors.IsServerTimeout(lost) {
			wantStatus(t, err, metav1.StatusReasonInvalid, "provided IP is already allocated")
		}
	})
}

// eventually creates a config map as soon as the store answers again.
func eventually(t *testing.T, e *env, name string) *corev1.ConfigMap {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		out, err := e.Create(t.Context(), configMap(name, nil), objects.WriteOptions{})
		if apierrors.IsAlreadyExists(err) { // an attempt before had happened after all
			return get(t, e, &corev1.ConfigMap{}, "default", name)
		}
		if err == nil {
			return must(t, &corev1.ConfigMap{})(out, nil)
		}
		if time.Now().After(deadline) {
			t.Fatalf("store never came back: %v", err)
		}
		time.Sleep(time.Second) // virtual
	}
}
