package e2e

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// web is the workload of most tests here.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: IMAGE
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`

// step is one kubectl command. want is a part of what it must print; one that begins with "!" must not be there. A
// command that fails must be marked so; then want is in its complaint.
type step struct {
	args  string
	input string
	want  []string
	fails bool
}

func (s space) steps(steps ...step) {
	s.Helper()
	for _, step := range steps {
		input := manifestOf(step.input)
		args := strings.Fields(step.args)
		var out string
		if step.fails {
			out = s.refused(input, args...)
		} else {
			out = s.kubectlArgs(input, args...)
		}
		s.Logf("kubectl %s\n%s", step.args, out)
		s.wants(out, step.want...)
	}
}

func TestKubectlGet(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	pods := s.readyPods("app=web", 2)
	s.steps(
		step{args: "get deploy web", want: []string{"READY", "2/2"}},
		step{args: "get pods", want: []string{"1/1", "Running"}},
		step{args: "get pods -o wide", want: []string{pods[0].Status.PodIP, pods[0].Spec.NodeName, pods[1].Spec.NodeName}},
		step{args: "get all", want: []string{"pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"}},
		step{args: "get pod " + pods[0].Name + " -o yaml", want: []string{"kind: Pod", "phase: Running", "containerID: skerry://", "qosClass: Burstable"}},
		step{args: "get pod " + pods[0].Name + " -o jsonpath={.status.podIP}", want: []string{pods[0].Status.PodIP}},
		step{args: "get pods -o custom-columns=N:.metadata.name,ON:.spec.nodeName --no-headers", want: []string{pods[0].Name, "!NAME"}},
		step{args: "get pods -o name", want: []string{"pod/" + pods[0].Name, "pod/" + pods[1].Name}},
		step{args: "get pods -A", want: []string{s.name, pods[0].Name}},
		step{args: "get pods -l app=web,!other", want: []string{pods[0].Name}},
		step{args: "get pods -l app!=web"},
		step{args: "get pods --field-selector spec.nodeName=" + pods[0].Spec.NodeName, want: []string{pods[0].Name}},
		step{args: "get pods --field-selector metadata.name=" + pods[0].Name, want: []string{pods[0].Name, "!" + pods[1].Name}},
		step{args: "get nodes --sort-by=.metadata.name -o name", want: []string{"node/n1\nnode/n2\nnode/n3\n"}},
		step{args: "get nodes --chunk-size=1 -o name", want: []string{"node/n1", "node/n2", "node/n3"}},
		step{args: "get nodes -o wide", want: []string{"Ready", "INTERNAL-IP", shared.State0.Nodes[0].Address}},
		step{args: "get endpointslices", want: []string{"web-", "8080"}},
		step{args: "get nodeinventories", want: []string{"n1", "n2", "n3"}},
		step{args: "get pods nope", fails: true, want: []string{`pods "nope" not found`}},
		step{args: "get flurbs", fails: true, want: []string{`the server doesn't have a resource type "flurbs"`}},
	)
}

func TestKubectlGetWatch(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := s.start(ctx, "get", "pods", "-w", "--output-watch-events", "--no-headers")
	lines := bufio.NewScanner(cmd.out)
	s.apply(web)
	s.readyPods("app=web", 2)
	s.kubectl("delete deploy web")
	wanted := []string{"ADDED", "MODIFIED", "1/1", "Terminating", "DELETED"}
	for lines.Scan() && len(wanted) > 0 {
		if strings.Contains(lines.Text(), wanted[0]) {
			wanted = wanted[1:]
		}
	}
	if len(wanted) > 0 {
		t.Errorf("get -w never showed %q", wanted)
	}
}

// running is a kubectl that goes on until the test ends.
type running struct {
	*exec.Cmd
	out        interface{ Read([]byte) (int, error) }
	complaints *bytes.Buffer // to be read when the program has ended
}

func (s space) start(ctx context.Context, args ...string) running {
	s.Helper()
	return s.startOver(ctx, transports["websocket"], args...)
}

// startOver starts kubectl with one of the transports.
func (s space) startOver(ctx context.Context, websocket string, args ...string) running {
	s.Helper()
	cmd := exec.CommandContext(ctx, shared.Tool("kubectl"), s.in(args)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.State0.Kubeconfig, "HOME="+s.TempDir())
	cmd.Env = append(cmd.Env, over(websocket)...)
	complaints := &bytes.Buffer{}
	cmd.Stderr = complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	return running{Cmd: cmd, out: out, complaints: complaints}
}

func TestKubectlDescribe(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	p := s.readyPods("app=web", 2)[0]
	await(s, "events of the pod", "events --field-selector involvedObject.name="+p.Name, func(l corev1.EventList) bool { return len(l.Items) >= 3 })
	s.steps(
		step{args: "describe pod " + p.Name, want: []string{"Status:           Running", "Controlled By:  ReplicaSet/web-", "http-get http://:http/readyz", "Scheduled", "Pulled", "Started"}},
		step{args: "describe node " + p.Spec.NodeName, want: []string{"MemoryPressure", "Ready", "kubernetes.io/hostname=" + p.Spec.NodeName, "Allocated resources", p.Name, "PodCIDR:"}},
		step{args: "describe deployment web", want: []string{"2 desired | 2 updated | 2 total | 2 available | 0 unavailable", "NewReplicaSet:   web-", "ScalingReplicaSet"}},
		step{args: "describe service web", want: []string{"Type:                     ClusterIP", p.Status.PodIP + ":8080", "TargetPort:               http/TCP"}},
		step{args: "describe rs -l app=web", want: []string{"2 current / 2 desired", "SuccessfulCreate"}},
		step{args: "events --for pod/" + p.Name, want: []string{"Scheduled", "Started"}},
		step{args: "get events --sort-by=.metadata.creationTimestamp", want: []string{"Started container web"}},
	)
}

func TestKubectlApply(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	three := strings.Replace(web, "replicas: 2", "replicas: 3", 1)
	wrong := strings.Replace(web, "replicas: 2", "replicsa: 2", 1)
	s.steps(
		step{args: "apply --dry-run=server -f -", input: web, want: []string{"deployment.apps/web created (server dry run)"}},
		step{args: "get deploy", want: []string{"!web"}},
		step{args: "apply -f -", input: web, want: []string{"deployment.apps/web created", "service/web created"}},
		step{args: "apply -f -", input: web, want: []string{"deployment.apps/web unchanged", "service/web unchanged"}},
		step{args: "diff -f -", input: web},
		step{args: "diff -f -", input: three, fails: true, want: []string{"-  replicas: 2", "+  replicas: 3"}},
		step{args: "apply --dry-run=server -f -", input: three, want: []string{"deployment.apps/web configured (server dry run)"}},
		step{args: "get deploy web -o jsonpath={.spec.replicas}", want: []string{"2"}},
		step{args: "apply -f -", input: three, want: []string{"deployment.apps/web configured", "service/web unchanged"}},
		step{args: "get deploy web -o jsonpath={.spec.replicas}", want: []string{"3"}},
		step{args: "apply -f -", input: wrong, fails: true, want: []string{`unknown field "spec.replicsa"`}},
		step{args: "get deploy web -o jsonpath={.spec.replicas}", want: []string{"3"}},
	)
	s.readyPods("app=web", 3)
}

func TestKubectlRollout(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	s.steps(
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
		step{args: "scale deploy/web --replicas=3", want: []string{"scaled"}},
		step{args: "scale deploy/web --current-replicas=9 --replicas=1", fails: true, want: []string{"Expected replicas to be 9"}},
		step{args: "wait deploy/web --for=jsonpath={.status.readyReplicas}=3 --timeout=90s", want: []string{"condition met"}},
		step{args: "set image deploy/web web=" + imageV2, want: []string{"image updated"}},
		step{args: "annotate deploy/web kubernetes.io/change-cause=second", want: []string{"annotated"}},
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
	)
	for _, p := range s.readyPods("app=web", 3) {
		if got := s.ask(p, "/env?name=VERSION"); got != "2" {
			t.Errorf("%s says version %q after the rollout", p.Name, got)
		}
	}
	s.steps(
		step{args: "rollout history deploy/web", want: []string{"REVISION", "1", "2", "second"}},
		step{args: "rollout history deploy/web --revision=1", want: []string{imageV1}},
		step{args: "rollout undo deploy/web", want: []string{"rolled back"}},
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
		step{args: "get deploy web -o jsonpath={..image}", want: []string{imageV1}},
		step{args: "rollout undo deploy/web --to-revision=2", want: []string{"rolled back"}},
		step{args: "get deploy web -o jsonpath={..image}", want: []string{imageV2}},
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
	)
	s.pauseAndRestart()
}

func (s space) pauseAndRestart() {
	before := uids(s.readyPods("app=web", 3))
	s.steps(
		step{args: "rollout pause deploy/web", want: []string{"paused"}},
		step{args: "set env deploy/web COLOUR=green", want: []string{"env updated"}},
	)
	await(s, "change observed", "deploy web", func(d appsv1.Deployment) bool { return d.Status.ObservedGeneration == d.Generation })
	for _, p := range s.readyPods("app=web", 3) {
		if _, ok := before[p.UID]; !ok {
			s.Errorf("%s is new although the rollout is paused", p.Name)
		}
	}
	s.steps(
		step{args: "rollout resume deploy/web", want: []string{"resumed"}},
		step{args: "rollout restart deploy/web", want: []string{"restarted"}},
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
	)
	for _, p := range s.readyPods("app=web", 3) {
		if _, old := before[p.UID]; old {
			s.Errorf("%s was not restarted", p.Name)
		}
		if got := s.ask(p, "/env?name=COLOUR"); got != "green" {
			s.Errorf("COLOUR is %q in %s", got, p.Name)
		}
	}
}

func TestKubectlChange(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	s.steps(
		step{args: "set resources deploy/web --limits=memory=48Mi", want: []string{"resource requirements updated"}},
		step{args: "label deploy/web tier=front", want: []string{"labeled"}},
		step{args: "label deploy/web tier=back", fails: true, want: []string{"already has a value"}},
		step{args: "label deploy/web --overwrite tier=back", want: []string{"labeled"}},
		step{args: "annotate deploy/web note=yes", want: []string{"annotated"}},
		step{args: `patch deploy web -p {"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}`, want: []string{"patched"}},
		step{args: `patch deploy web --type=merge -p {"metadata":{"annotations":{"note":null}}}`, want: []string{"patched"}},
		step{args: `patch deploy web --type=json -p [{"op":"replace","path":"/spec/replicas","value":1}]`, want: []string{"patched"}},
		step{args: `patch deploy web --type=json -p [{"op":"test","path":"/spec/replicas","value":7}]`, fails: true, want: []string{"test"}},
		step{args: "get deploy web -o yaml", want: []string{"replicas: 1", "memory: 48Mi", "name: A", "tier: back", "image: " + imageV1, "!note:"}},
	)
	t.Log(s.edit("s/replicas: 1/replicas: 2/"))
	s.steps(
		step{args: "get deploy web -o jsonpath={.spec.replicas}", want: []string{"2"}},
		step{args: "rollout status deploy/web --timeout=90s", want: []string{"successfully rolled out"}},
	)
}

// edit runs kubectl edit with sed for an editor.
func (s space) edit(expression string) string {
	s.Helper()
	script := filepath.Join(s.TempDir(), "editor")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsed -i '"+expression+"' \"$1\"\n"), 0o700); err != nil {
		s.Fatal(err)
	}
	out, err := shared.Run(s.Context(), "", "env", "KUBE_EDITOR="+script, shared.Tool("kubectl"), "-n", s.name, "edit", "deploy", "web")
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func TestKubectlDelete(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	pods := s.readyPods("app=web", 2)
	s.steps(
		step{args: "delete pod " + pods[0].Name, want: []string{"deleted"}},
		step{args: "delete pod " + pods[1].Name + " --now", want: []string{"deleted"}},
	)
	pods = s.readyPods("app=web", 2)
	s.steps(step{args: "delete deploy web --cascade=orphan", want: []string{"deleted"}})
	rs := await(s, "replica set orphaned", "rs", func(l appsv1.ReplicaSetList) bool {
		return len(l.Items) == 1 && len(l.Items[0].OwnerReferences) == 0
	}).Items[0]
	if after := uids(s.readyPods("app=web", 2)); len(after) != 2 {
		t.Errorf("pods changed: %v", after)
	}
	for _, p := range s.readyPods("app=web", 2) {
		if p.UID != pods[0].UID && p.UID != pods[1].UID {
			t.Errorf("%s is new", p.Name)
		}
	}
	s.steps(
		step{args: "delete rs " + rs.Name + " --cascade=foreground --timeout=90s", want: []string{"deleted"}},
		step{args: "get rs,pods", want: []string{"!web"}},
		step{args: "delete svc,deploy -l app=web", want: []string{`service "web" deleted`}},
		step{args: "delete pod nope", fails: true, want: []string{"not found"}},
		step{args: "delete namespace " + s.name + " --timeout=90s", want: []string{"deleted"}},
		step{args: "get namespace " + s.name, fails: true, want: []string{"not found"}},
	)
}

func TestKubectlLogs(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: ten, image: IMAGE, args: [lines, "10"]}
  - {name: ticker, image: IMAGE, args: [tick]}
`)
	s.ready("talk")
	s.logs("line 10\n", "talk", "-c", "ten")
	s.steps(
		step{args: "logs talk", want: []string{"line 1\n", "line 10\n"}},
		step{args: "logs talk -c ten --tail=2", want: []string{"line 9\nline 10\n", "!line 8\n"}},
		step{args: "logs talk -c ten --timestamps --tail=1", want: []string{time.Now().UTC().Format("2006-"), "Z line 10\n"}},
		step{args: "logs talk -c ten --since=1h", want: []string{"line 1\n"}},
		step{args: "logs talk -c ten --since-time=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), want: []string{"!line"}},
		step{args: "logs talk -c ten --limit-bytes=6", want: []string{"line 1", "!line 2"}},
		step{args: "logs talk -c nope", fails: true, want: []string{"container nope is not valid"}},
		step{args: "logs talk --all-containers --prefix --tail=1", want: []string{"[pod/talk/ten]", "[pod/talk/ticker]"}},
		step{args: "logs talk -c ten -p", fails: true, want: []string{"previous terminated container"}},
	)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	lines := bufio.NewScanner(s.start(ctx, "logs", "-f", "talk", "-c", "ticker", "--tail=1").out)
	for range 5 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "tick ") {
			t.Fatalf("logs -f gave %q (%v)", lines.Text(), lines.Err())
		}
	}
}

// TestKubectlLogsOfTheLastLife: what a container said before it was restarted, and the end of a followed log.
func TestKubectlLogsOfTheLastLife(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: dies}
spec:
  containers: [{name: c, image: IMAGE, args: [exit, "3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: c, image: IMAGE, args: [complain, done]}]
`)
	await(s, "restarted", "pod dies", func(p corev1.Pod) bool { return restarts(p) > 0 })
	s.logs("exiting with 3", "dies", "-p")
	s.ended("once")
	s.steps(step{args: "logs -f once", want: []string{"done\n"}})
}

func TestKubectlDiscovery(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.steps(
		step{args: "api-resources", want: []string{"deployments", "deploy", "nodeinventories", "fleet.skerry.dev/v1alpha1"}},
		step{args: "api-resources --namespaced=false -o name", want: []string{"nodes", "namespaces", "!pods"}},
		step{args: "api-versions", want: []string{"apps/v1", "v1", "discovery.k8s.io/v1"}},
		step{args: "cluster-info", want: []string{"is running at", strings.TrimPrefix(shared.State0.API, "https://")}},
		step{args: "version", want: []string{"Server Version: v1.37"}},
		step{args: "explain deployment.spec.replicas", want: []string{"Number of desired pods"}},
		step{args: "explain pod.spec.containers.livenessProbe --recursive", want: []string{"httpGet", "periodSeconds"}},
		step{args: "explain nodeinventory", want: []string{"fleet.skerry.dev", "VERSION"}},
		step{args: "auth can-i create deployments", want: []string{"yes"}},
		step{args: "auth can-i --list", want: []string{"*.*"}},
		step{args: "auth whoami", want: []string{"skerry-admin", "system:masters"}},
		step{args: "get --raw /readyz", want: []string{"ok"}},
		step{args: "get --raw /version", want: []string{"gitVersion"}},
		step{args: "top nodes", want: []string{"CPU(cores)", "n1"}},
	)
}

func TestKubectlCreate(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.steps(
		step{args: "create configmap c --from-literal=a=b", want: []string{"configmap/c created"}},
		step{args: "create configmap c --from-literal=a=b", fails: true, want: []string{"already exists"}},
		step{args: "create secret generic s --from-literal=password=hunter2", want: []string{"secret/s created"}},
		step{args: "get secret s -o jsonpath={.data.password}", want: []string{"aHVudGVyMg=="}},
		step{args: "create deployment d --image=" + imageV1 + " --replicas=1 --port=8080", want: []string{"deployment.apps/d created"}},
		step{args: "expose deployment d --port=80 --target-port=8080", want: []string{"service/d exposed"}},
		step{args: "create service clusterip x --tcp=80:8080", want: []string{"service/x created"}},
		step{args: "create namespace " + s.name, fails: true, want: []string{"already exists"}},
		step{args: "run p --image=" + imageV1 + " --restart=Never --labels=app=p -- print hello", want: []string{"pod/p created"}},
		step{args: "wait pod/p --for=jsonpath={.status.phase}=Succeeded --timeout=90s", want: []string{"condition met"}},
		step{args: "wait deploy/d --for=condition=Available --timeout=90s", want: []string{"condition met"}},
		step{args: "logs p", want: []string{"hello\n"}},
		step{args: "get pods --field-selector=status.phase=Succeeded -o name", want: []string{"pod/p\n", "!pod/d"}},
		step{args: "replace -f -", input: "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: z}}", want: []string{"replaced"}},
		step{args: "get cm c -o jsonpath={.data.a}", want: []string{"z"}},
		step{args: "wait pod/p --for=delete --timeout=1s", fails: true, want: []string{"timed out"}},
		step{args: "delete pod p --grace-period=0 --force", want: []string{"force deleted"}},
		step{args: "wait pod/p --for=delete --timeout=90s"},
	)
	url := s.serviceURL("d")
	s.poll("exposed deployment answers", func() (bool, error) {
		out, err := shared.FetchFrom(t.Context(), "n1", url)
		return err == nil && strings.HasPrefix(out, "d-"), err
	})
}

func (s space) serviceURL(name string) string {
	s.Helper()
	svc := get[corev1.Service](s, "service "+name)
	return "http://" + svc.Spec.ClusterIP + ":80/"
}

// TestKubectlOfDebian is for the oldest client that people are likely to have.
func TestKubectlOfDebian(t *testing.T) {
	t.Parallel()
	old := shared.Tool("kubectl-debian")
	s := newSpace(t)
	run := func(input string, args ...string) string {
		t.Helper()
		out, err := shared.Run(t.Context(), manifestOf(input), old, s.in(args)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Log(run("", "version"))
	s.wants(run(web, "apply", "-f", "-"), "deployment.apps/web created")
	s.wants(run("", "rollout", "status", "deploy/web"), "successfully rolled out")
	s.wants(run("", "get", "pods", "-o", "wide"), "1/1", "Running")
	s.wants(run("", "describe", "deploy", "web"), "2 available")
	s.wants(run("", "logs", "deploy/web"), "serving on :8080")
	s.wants(run("", "delete", "deploy,svc", "web"), "deleted")
}
