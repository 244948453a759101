package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestEphemeralContainers(t *testing.T) {
	c := withPods(t)
	const pod = "/api/v1/namespaces/default/pods/p"
	before := c.pod(t, pod)
	patch := `{"metadata":{"labels":{"a":"b"}},"spec":{"activeDeadlineSeconds":9,"ephemeralContainers":[{"name":"look","image":"busybox","targetContainerName":"a"}]}}`
	c.must(http.MethodPatch, pod+"/ephemeralcontainers", patch, header{"Content-Type": "application/strategic-merge-patch+json"})
	after := c.pod(t, pod+"/ephemeralcontainers")
	if len(after.Spec.EphemeralContainers) != 1 || after.Spec.EphemeralContainers[0].ImagePullPolicy != corev1.PullAlways {
		t.Errorf("ephemeral containers %+v", after.Spec.EphemeralContainers)
	}
	if after.Generation != before.Generation+1 {
		t.Errorf("generation %d after %d", after.Generation, before.Generation)
	}
	if after.Labels != nil || after.Spec.ActiveDeadlineSeconds != nil {
		t.Error("the subresource changes other fields")
	}
	a := c.do(http.MethodPatch, pod, `{"spec":{"ephemeralContainers":null}}`)
	if s := a.status(t); a.code != http.StatusUnprocessableEntity || !strings.Contains(s.Message, "pod updates may not change fields other than") {
		t.Errorf("as a pod: %d %s", a.code, s.Message)
	}
	a = c.do(http.MethodPatch, pod+"/ephemeralcontainers", `{"spec":{"ephemeralContainers":[]}}`)
	if s := a.status(t); a.code != http.StatusUnprocessableEntity || !strings.Contains(s.Message, "existing ephemeral containers \"look\" may not be removed") {
		t.Errorf("removal: %d %s", a.code, s.Message)
	}
	if a := c.do(http.MethodDelete, pod+"/ephemeralcontainers", ""); a.code != http.StatusMethodNotAllowed {
		t.Errorf("delete: %d", a.code)
	}
}

func (c *cluster) pod(t *testing.T, path string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	c.get(path).into(t, pod)
	return pod
}
