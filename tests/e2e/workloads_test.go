package e2e

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// testProgram is what runs in the test image, for where kubectl replaces the entrypoint.
const testProgram = "/testimage"

func jobIs(kind batchv1.JobConditionType) func(batchv1.Job) bool {
	return func(j batchv1.Job) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
}

const indexedJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: shards}
spec:
  completionMode: Indexed
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: IMAGE, args: [print, "shard-$(JOB_COMPLETION_INDEX)"]}]
`

func TestJobs(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.steps(step{args: "create job hello --image=" + imageV1 + " -- " + testProgram + " print hello", want: []string{"job.batch/hello created"}})
	s.apply(indexedJob)
	s.steps(
		step{args: "wait job/hello --for=condition=Complete --timeout=60s", want: []string{"condition met"}},
		step{args: "wait job/shards --for=condition=Complete --timeout=60s", want: []string{"condition met"}},
		step{args: "get jobs", want: []string{"hello", "Complete", "1/1", "3/3"}},
		step{args: "logs job/hello", want: []string{"hello"}},
		step{args: "logs -l batch.kubernetes.io/job-name=shards,batch.kubernetes.io/job-completion-index=2", want: []string{"shard-2"}},
		step{args: "describe job shards", want: []string{"Completed Indexes:  0-2", "SuccessfulCreate", "Job completed"}},
	)
	pods := get[corev1.PodList](s, "pods -l job-name=shards").Items
	for _, p := range pods {
		if len(p.Finalizers) > 0 {
			t.Errorf("pod %s is still held: %v", p.Name, p.Finalizers)
		}
	}
	if len(pods) != 3 {
		t.Errorf("%d pods, want 3", len(pods))
	}
	s.kubectl("delete job hello shards")
	await(s, "pods of deleted jobs gone", "pods", func(l corev1.PodList) bool { return len(l.Items) == 0 })
}

const failingJobs = `
apiVersion: batch/v1
kind: Job
metadata: {name: fatal}
spec:
  backoffLimit: 3
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: IMAGE, args: [exit, "42"]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: slow}
spec:
  activeDeadlineSeconds: 3
  template:
    spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: main, image: IMAGE, args: [sleep]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: asleep}
spec:
  suspend: true
  ttlSecondsAfterFinished: 2
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: IMAGE, args: [exit, "0"]}]}
`

func TestJobsThatFail(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(failingJobs)
	fatal := await(s, "fatal failed", "job fatal", jobIs(batchv1.JobFailed))
	if fatal.Status.Failed != 1 || !strings.Contains(fatal.Status.Conditions[0].Message, "exit code 42 matching FailJob rule at index 0") {
		t.Errorf("status %s", brief(fatal))
	}
	slow := await(s, "slow failed", "job slow", jobIs(batchv1.JobFailed))
	if c := slow.Status.Conditions[0]; c.Reason != batchv1.JobReasonDeadlineExceeded || slow.Status.Failed != 1 {
		t.Errorf("status %s", brief(slow))
	}
	await(s, "asleep suspended", "job asleep", jobIs(batchv1.JobSuspended))
	if pods := get[corev1.PodList](s, "pods -l job-name=asleep").Items; len(pods) > 0 {
		t.Errorf("a suspended job has %d pods", len(pods))
	}
	s.kubectlArgs("", "patch", "job", "asleep", "--type=merge", "-p", `{"spec":{"suspend":false}}`)
	await(s, "the job removed after its time", "jobs", func(l batchv1.JobList) bool { return len(l.Items) == 2 })
	s.wants(s.refused("", "create", "job", "bad", "--image=", "--", "x"), "--image")
}

func TestCronJobs(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	create := func(name, schedule string) []string {
		return []string{"create", "cronjob", name, "--image=" + imageV1, "--schedule=" + schedule, "--", testProgram, "print", "tock"}
	}
	s.wants(s.refused("", create("bad", "61 * * * *")...), "spec.schedule: Invalid value")
	s.kubectlArgs("", create("tick", "* * * * *")...)
	s.steps(
		step{args: "create job now --from=cronjob/tick", want: []string{"created"}},
		step{args: "wait job/now --for=condition=Complete --timeout=60s"},
		step{args: "logs job/now", want: []string{"tock"}},
		step{args: "get cronjobs", want: []string{"tick", "* * * * *", "False"}},
	)
	s.kubectlArgs("", "patch", "cronjob", "tick", "--type=merge", "-p", `{"spec":{"timeZone":"Europe/Berlin"}}`)
	s.wants(s.refused("", "patch", "cronjob", "tick", "--type=merge", "-p", `{"spec":{"timeZone":"Europe/Nowhere"}}`), "spec.timeZone", "unknown time zone Europe/Nowhere")
	done := await(s, "one run done", "cronjob tick", func(c batchv1.CronJob) bool {
		return c.Status.LastScheduleTime != nil && c.Status.LastSuccessfulTime != nil && len(c.Status.Active) == 0
	})
	if done.Status.LastSuccessfulTime.Before(done.Status.LastScheduleTime) {
		t.Errorf("status %s", brief(done))
	}
	s.kubectl("delete cronjob tick")
	await(s, "its jobs gone", "jobs", func(l batchv1.JobList) bool { return len(l.Items) == 0 })
}

const daemon = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: IMAGE
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
`

func TestDaemonSets(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(daemon)
	s.steps(
		step{args: "rollout status daemonset agent --timeout=90s", want: []string{"successfully rolled out"}},
		step{args: "get ds", want: []string{"agent", "DESIRED", "3         3         3"}},
		step{args: "get controllerrevisions", want: []string{"daemonset.apps/agent"}},
	)
	on := map[string]int{}
	for _, p := range s.readyPods("app=agent", 3) {
		on[p.Spec.NodeName]++
	}
	if len(on) != 3 {
		t.Errorf("pods on %v, want one on each node", on)
	}
	s.steps(
		step{args: "set image ds/agent main=" + imageV2},
		step{args: "rollout status ds/agent --timeout=90s", want: []string{"successfully rolled out"}},
		step{args: "rollout history ds/agent", want: []string{"REVISION", "1", "2"}},
		step{args: "rollout history ds/agent --revision=1", want: []string{imageV1}},
		step{args: "rollout undo ds/agent", want: []string{"rolled back"}},
		step{args: "rollout status ds/agent --timeout=90s", want: []string{"successfully rolled out"}},
		step{args: "rollout history ds/agent", want: []string{"2", "3"}},
	)
	for _, p := range s.readyPods("app=agent", 3) {
		if p.Spec.Containers[0].Image != imageV1 {
			t.Errorf("%s has image %s after undo", p.Name, p.Spec.Containers[0].Image)
		}
	}
	s.steps(
		step{args: "rollout restart ds/agent", want: []string{"restarted"}},
		step{args: "rollout status ds/agent --timeout=90s", want: []string{"successfully rolled out"}},
	)
	s.kubectlArgs("", "patch", "ds", "agent", "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"n2"}}}}}`)
	await(s, "one pod on n2", "pods", func(l corev1.PodList) bool {
		return len(l.Items) == 1 && l.Items[0].Spec.NodeName == "n2" && isReady(l.Items[0])
	})
	s.kubectl("delete ds agent")
	await(s, "its pods gone", "pods", func(l corev1.PodList) bool { return len(l.Items) == 0 })
	await(s, "its history gone", "controllerrevisions", func(l corev1.List) bool { return len(l.Items) == 0 })
}

const stateful = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: IMAGE
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
`

func TestStatefulSets(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(stateful)
	s.steps(
		step{args: "rollout status statefulset db --timeout=90s", want: []string{"partitioned roll out complete: 3 new pods have been updated"}},
		step{args: "get sts", want: []string{"db", "3/3"}},
		step{args: "get pods", want: []string{"db-0", "db-1", "db-2"}},
	)
	pods := s.readyPods("app=db", 3)
	if got := s.ask(pods[1], "/"); got != "db-1" {
		t.Errorf("db-1 calls itself %q", got)
	}
	for i := 1; i < len(pods); i++ {
		if pods[i].CreationTimestamp.Before(&pods[i-1].CreationTimestamp) {
			t.Errorf("%s is older than %s", pods[i].Name, pods[i-1].Name)
		}
	}
	s.kubectlArgs("", "patch", "sts", "db", "--type=merge", "-p", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}`)
	s.steps(
		step{args: "set image sts/db main=" + imageV2},
		step{args: "rollout status sts/db --timeout=90s", want: []string{"partitioned roll out complete: 1 new pods have been updated"}},
	)
	s.images("app=db", imageV1, imageV1, imageV2)
	s.kubectl("delete pod db-0")
	s.images("app=db", imageV1, imageV1, imageV2)
	s.kubectlArgs("", "patch", "sts", "db", "--type=merge", "-p", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	s.steps(
		step{args: "rollout status sts/db --timeout=90s", want: []string{"partitioned roll out complete: 3 new pods have been updated"}},
		step{args: "rollout history sts/db", want: []string{"REVISION", "1", "2"}},
		step{args: "rollout undo sts/db", want: []string{"rolled back"}},
		step{args: "rollout status sts/db --timeout=90s", want: []string{"partitioned roll out complete: 3 new pods have been updated"}},
	)
	s.images("app=db", imageV1, imageV1, imageV1)
	s.steps(
		step{args: "scale sts/db --replicas=1", want: []string{"scaled"}},
		step{args: "wait --for=delete pod/db-1 pod/db-2 --timeout=60s"},
	)
	s.kubectl("delete sts db")
	await(s, "its pods gone", "pods", func(l corev1.PodList) bool { return len(l.Items) == 0 })
}

// images waits for so many pods to be ready with these images, sorted by name.
func (s space) images(selector string, want ...string) {
	s.Helper()
	await(s, "images "+strings.Join(want, " "), "pods -l "+selector, func(l corev1.PodList) bool {
		for i, p := range l.Items {
			if i >= len(want) || p.Spec.Containers[0].Image != want[i] || !isReady(p) {
				return false
			}
		}
		return len(l.Items) == len(want)
	})
}
