package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const replicationController = `
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: old}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, args: [sleep], resources: {requests: {cpu: 1m, memory: 4Mi}}}]
`

func TestReplicationController(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(replicationController)
	s.readyPods("app=old", 2)
	await(s, "two ready", "rc old", func(c corev1.ReplicationController) bool {
		return c.Status.ReadyReplicas == 2 && c.Status.AvailableReplicas == 2
	})
	s.steps(
		step{args: "get rc", want: []string{"DESIRED", "CURRENT", "READY", "old"}},
		step{args: "get all", want: []string{"replicationcontroller/old"}},
		step{args: "scale rc old --replicas=3 --current-replicas=2", want: []string{"replicationcontroller/old scaled"}},
		step{args: "describe rc old", want: []string{"Selector:     app=old", "3 desired", "SuccessfulCreate"}},
		step{args: "expose rc old --port=80", want: []string{"service/old exposed"}},
	)
	pods := s.readyPods("app=old", 3)
	s.kubectl("delete pod " + pods[0].Name)
	s.readyPods("app=old", 3)
	s.kubectl("delete rc old --cascade=orphan")
	s.poll("the pods are free", func() (bool, error) {
		left, err := tryGet[corev1.PodList](s, "pods -l app=old")
		for _, p := range left.Items {
			if len(p.OwnerReferences) > 0 {
				return false, err
			}
		}
		return len(left.Items) == 3, err
	})
	s.apply(strings.Replace(replicationController, "replicas: 2", "replicas: 1", 1)) // adopts the three and lets two go
	s.readyPods("app=old", 1)
	s.kubectl("delete rc old")
	await(s, "pods gone", "pods", func(l corev1.PodList) bool { return len(l.Items) == 0 })
	s.wants(s.refused(strings.Replace(replicationController, "app: old", "app: Old!", 1), "apply", "-f", "-"), "spec.template.labels", "Invalid value")
}
