package e2e

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const quotaAndLimits = `
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: "3", requests.cpu: 20m, configmaps: "3"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec: {limits: [{type: Container, defaultRequest: {cpu: 5m}, max: {memory: 64Mi}, default: {memory: 32Mi}}]}
`

func TestQuotaAndLimits(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(quotaAndLimits)
	s.apply(strings.ReplaceAll(deploymentOf("many", 5, ""), "resources: {requests: {cpu: 1m, memory: 4Mi}}", "resources: {}"))
	await(s, "three of five, and why not more", "rs -l app=many", func(l appsv1.ReplicaSetList) bool {
		for _, rs := range l.Items {
			for _, c := range rs.Status.Conditions {
				if rs.Status.ReadyReplicas == 3 && strings.Contains(c.Message, "exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3") {
					return true
				}
			}
		}
		return false
	})
	for _, p := range s.spread("app=many", 3, 3)["n1"] {
		if r := p.Spec.Containers[0].Resources; r.Requests.Cpu().String() != "5m" || r.Limits.Memory().String() != "32Mi" {
			t.Errorf("resources %+v", r)
		}
	}
	await(s, "what is used", "quota q", func(q corev1.ResourceQuota) bool {
		pods, cpu := q.Status.Used[corev1.ResourcePods], q.Status.Used[corev1.ResourceRequestsCPU]
		return pods.String() == "3" && cpu.String() == "15m"
	})
	s.wants(s.kubectl("get quota"), "REQUEST", "LIMIT", "pods: 3/3", "requests.cpu: 15m/20m")
	s.wants(s.kubectl("describe limits l"), "Container", "memory", "64Mi", "32Mi")
	s.wants(s.refused(manifestOf(podManifest("fat", "", "args: [sleep]\nresources: {limits: {memory: 100Mi}}")), "apply", "-f", "-"),
		"maximum memory usage per Container is 64Mi, but limit is 100Mi")
	s.kubectl("scale deployment many --replicas=2")
	s.readyPods("app=many", 2)
	s.kubectl("create quota jobs --hard=count/jobs.batch=0")
	s.wants(s.refused("", "create", "job", "j", "--image="+imageV1), "exceeded quota: jobs, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0")
}
