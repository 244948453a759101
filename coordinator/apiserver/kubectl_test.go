package apiserver_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectl runs the real thing against a cluster.
type kubectl struct {
	t      *testing.T
	binary string
	config string
}

func newKubectl(t *testing.T, c *cluster) *kubectl {
	t.Helper()
	k := &kubectl{t: t, binary: findKubectl(t), config: filepath.Join(t.TempDir(), "kubeconfig")}
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x",
"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%q}}],
"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}`,
		c.url, base64.StdEncoding.EncodeToString(c.ca.pem), adminToken)
	if err := os.WriteFile(k.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

// findKubectl takes SKERRY_KUBECTL, the one that make builds, or any on the PATH.
func findKubectl(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("SKERRY_KUBECTL"), "../../.cache/bin/kubectl"} {
		if full, err := filepath.Abs(path); path != "" && err == nil {
			if _, err := os.Stat(full); err == nil {
				return full
			}
		}
	}
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl: make deps builds it, or name one in SKERRY_KUBECTL")
	}
	return path
}

func (k *kubectl) command(ctx context.Context, stdin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.binary, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.config, "HOME="+filepath.Dir(k.config), "KUBE_EDITOR=sed -i s/hello/edited/")
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// run gives what kubectl prints, and whether it was content.
func (k *kubectl) run(stdin string, args ...string) (string, bool) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	out, err := k.command(ctx, stdin, args...).CombinedOutput()
	return string(out), err == nil
}

const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "registry.skerry/web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`

const ready = `{"status":{"observedGeneration":99,"replicas":3,"updatedReplicas":3,"readyReplicas":3,"availableReplicas":3,"conditions":[{"type":"Available","status":"True"}]}}`

// kubectlSteps is a user's day. want is a part of what kubectl must print; one that begins with "!" must not be there.
// fail says that kubectl must end with an error.
var kubectlSteps = []struct {
	args  string
	stdin string
	want  []string
	fail  bool
}{
	{args: "version", want: []string{"Server Version: v1.37.2+skerry"}},
	{args: "api-resources", want: []string{"deployments", "nodeinventories", "inv", "fleet.skerry.dev/v1alpha1"}},
	{args: "api-resources --verbs=list --namespaced -o name", want: []string{"deployments.apps", "!nodes"}},
	{args: "api-versions", want: []string{"apps/v1", "authorization.k8s.io/v1"}},
	{args: "cluster-info", want: []string{"is running at https://127.0.0.1"}},
	{args: "get namespaces", want: []string{"default", "kube-system", "Active"}},
	{args: "apply -f -", stdin: webManifest, want: []string{"deployment.apps/web created", "service/web created"}},
	{args: "apply -f -", stdin: webManifest, want: []string{"deployment.apps/web unchanged", "service/web unchanged"}},
	{args: "diff -f -", stdin: strings.Replace(webManifest, "replicas: 2", "replicas: 3", 1), want: []string{"-  replicas: 2", "+  replicas: 3"}, fail: true},
	{args: "apply --dry-run=server -f -", stdin: strings.Replace(webManifest, "replicas: 2", "replicas: 3", 1), want: []string{"configured (server dry run)"}},
	{args: "get deploy web -o jsonpath={.spec.replicas}", want: []string{"2"}},
	{args: "get all -o wide", want: []string{"service/web", "deployment.apps/web", "0/2", "registry.skerry/web:1", "app=web"}},
	{args: "scale deploy web --replicas=5 --current-replicas=9", fail: true, want: []string{"Expected replicas to be 9"}},
	{args: "scale deploy web --replicas=3", want: []string{"scaled"}},
	{args: "set image deploy/web web=registry.skerry/web:2", want: []string{"image updated"}},
	{args: "set env deploy/web GREETING=hello", want: []string{"env updated"}},
	{args: "set resources deploy/web --limits=memory=64Mi", want: []string{"resource requirements updated"}},
	{args: "label deploy web tier=front", want: []string{"labeled"}},
	{args: "annotate deploy web note=yes", want: []string{"annotated"}},
	{args: "edit deploy web", want: []string{"edited"}},
	{args: "get deploy web -o yaml", want: []string{"image: registry.skerry/web:2", "value: edited", "memory: 64Mi", "tier: front", "note: "}},
	{args: "get deploy -l tier=front -o name", want: []string{"deployment.apps/web"}},
	{args: "rollout status deploy/web --timeout=1s", want: []string{"Waiting for deployment"}, fail: true},
	{args: "patch deploy web --subresource=status --type=merge -p " + ready, want: []string{"patched"}},
	{args: "rollout status deploy/web --timeout=5s", want: []string{"successfully rolled out"}},
	{args: "wait deploy/web --for=condition=Available --timeout=5s", want: []string{"condition met"}},
	{args: "get deploy web", want: []string{"3/3"}},
	{args: "rollout pause deploy/web", want: []string{"paused"}},
	{args: "rollout resume deploy/web", want: []string{"resumed"}},
	{args: "rollout restart deploy/web", want: []string{"restarted"}},
	{args: "describe deploy web", want: []string{"registry.skerry/web:2", "3 desired", "RollingUpdate", "25% max unavailable"}},
	{args: "describe svc web", want: []string{"app=web", "ClusterIP", "10.43."}},
	{args: "run p --image=x --restart=Never", want: []string{"pod/p created"}},
	{args: "get pod p -o wide", want: []string{"Pending", "NOMINATED NODE", "<none>"}},
	{args: "get pods --field-selector=status.phase=Running", want: []string{"No resources found"}},
	{args: "describe pod p", want: []string{"Status:           Pending", "BestEffort"}},
	{args: "logs p", want: []string{"no node yet"}, fail: true},
	{args: "create configmap c --from-literal=a=b", want: []string{"created"}},
	{args: "create secret generic s --from-literal=password=hunter2", want: []string{"created"}},
	{args: "get secret s -o jsonpath={.data.password}", want: []string{"aHVudGVyMg=="}},
	{args: "get secret -A --sort-by=.metadata.name", want: []string{"Opaque"}},
	{args: "get events -A", want: []string{"No resources found"}},
	{args: "create -f -", stdin: "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dta: {}}", want: []string{`unknown field "dta"`}, fail: true},
	{args: "create -f - --validate=warn", stdin: "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dta: {}}", want: []string{`Warning: unknown field "dta"`, "created"}},
	{args: "create -f -", stdin: "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c}]}}", want: []string{"spec.containers[0].image: Required value"}, fail: true},
	{args: "replace -f -", stdin: "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: z}}", want: []string{"replaced"}},
	{args: "explain deployment.spec.strategy.rollingUpdate.maxSurge", want: []string{"maximum number of pods"}},
	{args: "explain pod.spec --recursive", want: []string{"livenessProbe", "tolerationSeconds"}},
	{args: "explain nodeinventory.inventory.cpu", want: []string{"CPU describes the processors", "cores"}},
	{args: "auth can-i delete pods", want: []string{"yes"}},
	{args: "auth can-i --list", want: []string{"*.*"}},
	{args: "auth whoami", want: []string{"admin", "system:masters"}},
	{args: "create namespace n", want: []string{"created"}},
	{args: "-n n create configmap inside --from-literal=a=b", want: []string{"created"}},
	{args: "get cm -A --field-selector=metadata.namespace=n -o name", want: []string{"configmap/inside"}},
	{args: "get pods nope", want: []string{`Error from server (NotFound): pods "nope" not found`}, fail: true},
	{args: "apply --server-side -f -", stdin: webManifest, want: []string{`conflicts with "kubectl-set" using apps/v1`, `.spec.template.spec.containers[name="web"].image`, ".spec.replicas", "--force-conflicts"}, fail: true},
	{args: "apply --server-side --force-conflicts -f -", stdin: webManifest, want: []string{"deployment.apps/web serverside-applied", "service/web serverside-applied"}},
	{args: "get deploy web --show-managed-fields -o yaml", want: []string{"manager: kubectl\n", "operation: Apply", "f:selector: {}", "registry.skerry/web:1", "value: edited"}},
	{args: "get deploy web -o yaml", want: []string{"!managedFields"}},
	{args: "apply --server-side --field-manager=other -f -", stdin: strings.Replace(webManifest, "web:1", "web:7", 1), want: []string{`Apply failed with 1 conflict: conflict with "kubectl"`}, fail: true},
	{args: "diff --server-side --field-manager=kubectl -f -", stdin: strings.Replace(webManifest, "web:1", "web:8", 1), want: []string{"+        image: registry.skerry/web:8"}, fail: true},
	{args: "apply -f -", stdin: webManifest, want: []string{"deployment.apps/web"}},
	{args: "exec p -- ls", want: []string{"pod p does not have a host assigned"}, fail: true},
	{args: "delete pod p --grace-period=0 --force", want: []string{`pod "p" force deleted`}},
	{args: "delete deploy,svc -l app=web", want: []string{`deployment.apps "web" deleted`}},
	{args: "delete cm --all", want: []string{`configmap "c" deleted`, `configmap "x" deleted`}},
	{args: "get cm", want: []string{"No resources found"}},
}

func TestKubectl(t *testing.T) {
	k := newKubectl(t, start(t))
	for _, step := range kubectlSteps {
		out, ok := k.run(step.stdin, strings.Fields(step.args)...)
		if ok == step.fail {
			t.Errorf("kubectl %s: ended well: %v\n%s", step.args, ok, out)
		}
		for _, want := range step.want {
			part, absent := strings.CutPrefix(want, "!")
			if strings.Contains(out, part) == absent {
				t.Errorf("kubectl %s: want %q in\n%s", step.args, want, out)
			}
		}
	}
}

func TestKubectlWatches(t *testing.T) {
	c := start(t)
	k := newKubectl(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := k.command(ctx, "", "get", "configmaps", "-w", "--output-watch-events", "--no-headers")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.configMap("a", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	want := func(prefix string) {
		t.Helper()
		if !lines.Scan() || strings.Join(strings.Fields(lines.Text())[:2], " ") != prefix {
			t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), prefix)
		}
	}
	want("ADDED a")
	c.configMap("b", "1")
	want("ADDED b")
	c.must("PATCH", configMaps+"/b", `{"data":{"x":"y"}}`)
	want("MODIFIED b")
	c.must("DELETE", configMaps+"/a", "")
	want("DELETED a")
	cancel()
	_ = cmd.Wait() // it was killed
}
