package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

const guardedWork = `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard}
spec:
  minAvailable: 3
  selector: {matchLabels: {app: guarded}}
---
`

// TestDrain drains a node with kubectl: the budget holds it up, and when there is a pod more it goes on. It is not
// parallel, because nothing new comes to a node that is drained.
func TestDrain(t *testing.T) {
	s := newSpace(t)
	t.Cleanup(func() {
		if out, err := shared.Kubectl(context.Background(), "", "uncordon", "n1"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	s.apply(guardedWork + deploymentOf("guarded", 3, `
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: guarded}}}`))
	before := s.readyPods("app=guarded", 3)
	there, _ := on(before, "n1")
	if len(there) != 1 {
		t.Fatalf("pods: %s", names(map[string][]corev1.Pod{"": before}))
	}
	await(s, "the budget worked out", "pdb guard", func(b policyv1.PodDisruptionBudget) bool {
		return b.Status.CurrentHealthy == 3 && b.Status.DesiredHealthy == 3 && b.Status.ExpectedPods == 3 && b.Status.DisruptionsAllowed == 0
	})
	s.wants(s.kubectl("get pdb"), "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "guard", "N/A")
	s.wants(s.kubectl("describe pdb guard"), "Min available:  3", "Allowed disruptions:  0", "Current:", "Desired:", "Total:")

	drain := []string{"drain", "n1", "--ignore-daemonsets", "--pod-selector=app=guarded"}
	held := s.refused("", append(drain, "--timeout=6s")...)
	s.wants(held, "Cannot evict pod as it would violate the pod's disruption budget.", there[0].Name, "global timeout reached: 6s")
	s.untouched(before)

	ended := make(chan error, 1) // of the one drain
	go func() {
		_, err := shared.Kubectl(s.Context(), "", append(drain, "--timeout=80s")...)
		ended <- err
	}()
	s.kubectl("scale deployment guarded --replicas=4")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	after := s.readyPods("app=guarded", 4)
	if there, _ := on(after, "n1"); len(there) > 0 {
		t.Errorf("still on n1: %s", there[0].Name)
	}
	s.poll("the budget full again", func() (bool, error) {
		b, err := tryGet[policyv1.PodDisruptionBudget](s, "pdb guard")
		return err == nil && b.Status.DisruptionsAllowed == 1 && len(b.Status.DisruptedPods) == 0, err
	})
	if out := s.refused(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"other"}}`,
		"create", "--raw", "/api/v1/namespaces/"+s.name+"/pods/"+after[0].Name+"/eviction", "-f", "-"); !strings.Contains(out, "name in URL does not match name in Eviction object") {
		t.Error(out)
	}
}
