package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check is one command as a person types it. $DIR stands for a folder of the test, $NODE for
// a node, $SPACE for the namespace.
type check struct {
	args  string
	input string
	want  []string // parts of what it prints; "!" before one that must not be there
	fails bool
	since bool // newer than Debian's kubectl 1.20, in itself or in what it prints
}

// clients are the programs that people use.
func clients() map[string]string {
	return map[string]string{"kubectl": shared.Tool("kubectl"), "debian": shared.Tool("kubectl-debian"), "skerry": shared.Bin("skerry")}
}

// nodeOf gives each client a node of its own: kubectl taint writes all of a node's taints at once.
var nodeOf = map[string]string{"kubectl": "n1", "kubectl-debian": "n2", "skerry": "n3"}

// TestEveryCommand goes through every command that people use, in the order of a working day, with each client.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	for name, program := range clients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			done := 0
			dir := s.checkFiles()
			for _, c := range checks {
				if c.since && name == "debian" {
					continue
				}
				s.check(program, dir, c)
				done++
			}
			t.Logf("%s: %d checks", name, done)
			if minimum := map[string]int{"kubectl": 110, "skerry": 110, "debian": 80}[name]; done < minimum {
				t.Errorf("%d checks, want %d or more", done, minimum)
			}
		})
	}
}

func (s space) check(program, dir string, c check) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	defer cancel()
	fill := strings.NewReplacer("$DIR", dir, "$NODE", nodeOf[filepath.Base(program)], "$IMAGE", imageV1, "$SPACE", s.name, "$BOX", imageBox)
	env := []string{"KUBE_EDITOR=sed -i s/edit-me/edited/", "TERM=dumb", program, "-n", s.name}
	args := strings.Fields(fill.Replace(c.args))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "_", " ")
	}
	out, err := shared.Run(ctx, fill.Replace(c.input), "env", append(env, args...)...)
	if (err != nil) != c.fails {
		s.Errorf("%s: failed %t, want %t: %v\n%s", c.args, err != nil, c.fails, err, out)
		return
	}
	if err != nil {
		out += err.Error()
	}
	for _, part := range c.want {
		word, absent := strings.CutPrefix(fill.Replace(part), "!")
		if strings.Contains(out, word) == absent {
			s.Errorf("%s: want %q in\n%.2000s", c.args, part, out)
		}
	}
}

// checkFiles writes what the checks read.
func (s space) checkFiles() string {
	s.Helper()
	dir := s.TempDir()
	for name, text := range map[string]string{
		"web.yaml":             manifestOf(web),
		"three.yaml":           strings.Replace(manifestOf(web), "replicas: 2", "replicas: 3", 1),
		"wrong.yaml":           strings.Replace(manifestOf(web), "replicas: 2", "replicsa: 2", 1),
		"file.txt":             "from a file\n",
		"k/kustomization.yaml": "namePrefix: pre-\nresources: [cm.yaml]\n",
		"k/cm.yaml":            configMapJSON("built", "b"),
		"replace.yaml":         configMapJSON("lit", "replaced"),
		"merge.yaml":           "data: {b: patched}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	return dir
}

// configMapJSON is JSON because kubectl 1.20 takes all that begins with a brace for it.
func configMapJSON(name, a string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"a":%q}}`, name, a)
}

// checks: an underscore in args is a blank that does not part words.
var checks = []check{
	// What is there.
	{args: "version", want: []string{"v1.37"}},
	{args: "cluster-info", want: []string{"is running at"}},
	{args: "api-versions", want: []string{"apps/v1\n", "batch/v1\n", "v1\n"}},
	{args: "api-resources", want: []string{"deployments", "deploy", "cronjobs", "nodeinventories"}},
	{args: "api-resources --namespaced=true -o name", want: []string{"pods\n", "!nodes\n"}},
	{args: "api-resources --api-group=batch", want: []string{"jobs", "!deployments"}},
	{args: "explain pod", want: []string{"Pod is a collection of containers"}},
	{args: "explain deployment.spec.strategy", want: []string{"RollingUpdate"}},
	{args: "explain job.spec --recursive", want: []string{"backoffLimit"}},
	{args: "explain nope", fails: true, want: []string{"the server doesn't have a resource type"}},
	{args: "get --raw /healthz", want: []string{"ok"}},
	{args: "get --raw /asyncapi/v3", want: []string{`"asyncapi":"3.0.0"`, "skerry.v1.api.pods.get"}},
	{args: "auth can-i create pods", want: []string{"yes"}},
	{args: "auth can-i --list", want: []string{"*.*"}},
	{args: "auth whoami", since: true, want: []string{"skerry-admin"}},
	{args: "config view", want: []string{"certificate-authority-data: DATA+OMITTED"}},
	{args: "config current-context", want: []string{"skerry\n"}},
	{args: "options", want: []string{"--kubeconfig"}},
	{args: "completion bash", want: []string{"bash completion"}},
	// Create.
	{args: "create configmap lit --from-literal=a=b", want: []string{"configmap/lit created"}},
	{args: "create configmap lit --from-literal=a=b", fails: true, want: []string{`configmaps "lit" already exists`}},
	{args: "create configmap filed --from-file=$DIR/file.txt", want: []string{"created"}},
	{args: "get configmap filed -o jsonpath={.data.file\\.txt}", want: []string{"from a file"}},
	{args: "create secret generic sec --from-literal=p=hunter2", want: []string{"secret/sec created"}},
	{args: "get secret sec -o jsonpath={.data.p}", want: []string{"aHVudGVyMg=="}},
	{args: "describe secret sec", want: []string{"p:  7 bytes", "!hunter2"}},
	{args: "create serviceaccount robot", want: []string{"serviceaccount/robot created"}},
	{args: "create service clusterip plain --tcp=80:8080", want: []string{"service/plain created"}},
	{args: "create service nodeport door --tcp=80:8080", want: []string{"service/door created"}},
	{args: "get service door", want: []string{"NodePort", "80:3"}},
	{args: "create service externalname nick --external-name=example.com", want: []string{"service/nick created"}},
	{args: "create deployment made --image=$IMAGE", want: []string{"deployment.apps/made created"}},
	{args: "create job once --image=$IMAGE -- /testimage print from-a-job", want: []string{"job.batch/once created"}},
	{args: "create cronjob nightly --image=$IMAGE --schedule=0_3_*_*_* -- /testimage print x", since: true, want: []string{"cronjob.batch/nightly created"}},
	{args: "get cronjob nightly", since: true, want: []string{"0 3 * * *", "False"}},
	{args: "create job manual --from=cronjob/nightly", since: true, want: []string{"job.batch/manual created"}},
	{args: "create role reader --verb=get,list --resource=pods", want: []string{"role.rbac.authorization.k8s.io/reader created"}},
	{args: "create rolebinding reads --role=reader --serviceaccount=$SPACE:robot", want: []string{"created"}},
	{args: "auth can-i list pods --as=system:serviceaccount:$SPACE:robot", want: []string{"yes"}},
	{args: "auth can-i delete pods --as=system:serviceaccount:$SPACE:robot", fails: true, want: []string{"no"}},
	{args: "describe rolebinding reads", want: []string{"ServiceAccount  robot"}},
	{args: "create poddisruptionbudget keep --selector=app=web --min-available=1", since: true, want: []string{"poddisruptionbudget.policy/keep created"}},
	{args: "create priorityclass $SPACE --value=7", want: []string{"created"}},
	{args: "delete priorityclass $SPACE", want: []string{"deleted"}},
	{args: "create deployment dry --image=$IMAGE --dry-run=client -o yaml", want: []string{"kind: Deployment", "image: $IMAGE"}},
	{args: "create deployment dry --image=$IMAGE --dry-run=server", want: []string{"server dry run"}},
	{args: "get deployment dry", fails: true, want: []string{`deployments.apps "dry" not found`}},
	// Apply.
	{args: "apply -f $DIR/web.yaml", want: []string{"deployment.apps/web created", "service/web created"}},
	{args: "apply -f $DIR/web.yaml", want: []string{"deployment.apps/web unchanged", "service/web unchanged"}},
	{args: "diff -f $DIR/web.yaml"},
	{args: "diff -f $DIR/three.yaml", fails: true, want: []string{"-  replicas: 2", "+  replicas: 3"}},
	{args: "apply -f $DIR/wrong.yaml", fails: true, want: []string{"replicsa"}},
	{args: "apply view-last-applied deployment/web", want: []string{"kind: Deployment"}},
	{args: "rollout status deployment/web --timeout=90s", want: []string{"successfully rolled out"}},
	{args: "apply --server-side --field-manager=me -f -", input: configMapJSON("ssa", "mine"), want: []string{"configmap/ssa serverside-applied"}},
	{args: "apply --server-side --field-manager=you -f -", input: configMapJSON("ssa", "yours"), fails: true, want: []string{`conflict with "me"`}},
	{args: "apply --server-side --field-manager=you --force-conflicts -f -", input: configMapJSON("ssa", "yours"), want: []string{"serverside-applied"}},
	{args: "get configmap ssa -o jsonpath={.data.a}", want: []string{"yours"}},
	{args: "kustomize $DIR/k", want: []string{"name: pre-built"}},
	{args: "apply -k $DIR/k", want: []string{"configmap/pre-built created"}},
	// Look.
	{args: "get pods -l app=web", want: []string{"NAME", "1/1", "Running"}},
	{args: "get pods -o wide", want: []string{"NOMINATED NODE", "10.42."}},
	{args: "get all", want: []string{"deployment.apps/web", "service/web", "replicaset.apps/web-", "job.batch/once"}},
	{args: "get deployment web -o yaml", want: []string{"kind: Deployment", "availableReplicas: 2"}},
	{args: "get deployment web -o json", want: []string{`"kind": "Deployment"`}},
	{args: "get deployment web -o jsonpath={.status.readyReplicas}", want: []string{"2"}},
	{args: "get deployment -o custom-columns=N:.metadata.name --no-headers", want: []string{"web\n", "!NAME"}},
	{args: "get deployment -o name", want: []string{"deployment.apps/web\n"}},
	{args: "get deployment -o go-template={{len_.items}}", want: []string{"2"}},
	{args: "get pods --show-labels", want: []string{"app=web"}},
	{args: "get pods -L app", want: []string{"APP", "web"}},
	{args: "get nodes --sort-by=.metadata.name -o name", want: []string{"node/n1\nnode/n2\nnode/n3\n"}},
	{args: "get pods -A --field-selector=metadata.namespace=$SPACE", want: []string{"NAMESPACE", "web-"}},
	{args: "get endpoints web", want: []string{":8080"}},
	{args: "get endpointslices", want: []string{"web-", "8080"}},
	{args: "get cm,secret", want: []string{"configmap/lit", "secret/sec"}},
	{args: "get nope", fails: true, want: []string{"the server doesn't have a resource type"}},
	{args: "describe deployment web", want: []string{"2 available", "NewReplicaSet:"}},
	{args: "describe pods -l app=web", want: []string{"Status:", "Running", "Ready", "True"}},
	{args: "describe service web", want: []string{"ClusterIP", "Endpoints:"}},
	{args: "describe node $NODE", want: []string{"Allocated resources", "kubernetes.io/hostname=$NODE"}},
	{args: "describe configmap lit", want: []string{"a:\n----\nb"}},
	{args: "events", since: true, want: []string{"ScalingReplicaSet"}},
	{args: "get events", want: []string{"Scheduled"}},
	{args: "top nodes", since: true, want: []string{"CPU(cores)", "n1"}},
	// Change.
	{args: "label deployment web tier=front", want: []string{"labeled"}},
	{args: "label deployment web tier=back", fails: true, want: []string{"already has a value"}},
	{args: "label deployment web tier=back --overwrite", want: []string{"labeled"}},
	{args: "label deployment web tier-", want: []string{"deployment.apps/web"}},
	{args: "annotate deployment web note=edit-me", want: []string{"annotated"}},
	{args: "edit deployment web", want: []string{"deployment.apps/web edited"}},
	{args: "get deployment web -o jsonpath={.metadata.annotations.note}", want: []string{"edited"}},
	{args: `patch configmap lit -p {"data":{"b":"c"}}`, want: []string{"configmap/lit patched"}},
	{args: `patch configmap lit --type=merge -p {"data":{"b":null}}`, want: []string{"patched"}},
	{args: `patch configmap lit --type=json -p [{"op":"add","path":"/data/c","value":"d"}]`, want: []string{"patched"}},
	{args: `patch configmap lit --type=json -p [{"op":"remove","path":"/data/nope"}]`, fails: true, want: []string{"nope"}},
	{args: "patch configmap lit --patch-file=$DIR/merge.yaml", since: true, want: []string{"patched"}},
	{args: "get configmap lit -o jsonpath={.data}", want: []string{`"c":"d"`}},
	{args: "replace -f $DIR/replace.yaml", want: []string{"configmap/lit replaced"}},
	{args: "get configmap lit -o jsonpath={.data}", want: []string{`{"a":"replaced"}`}},
	{args: "scale deployment web --replicas=3", want: []string{"scaled"}},
	{args: "scale deployment web --current-replicas=9 --replicas=1", fails: true, want: []string{"xpected replicas to be 9"}},
	{args: "wait deployment/web --for=condition=Available --timeout=90s", want: []string{"condition met"}},
	{args: "set image deployment/web web=" + imageV2, want: []string{"image updated"}},
	{args: "set env deployment/web COLOUR=green", want: []string{"env updated"}},
	{args: "set env deployment/web --list", want: []string{"COLOUR=green"}},
	{args: "set resources deployment/web --limits=memory=48Mi", want: []string{"resource requirements updated"}},
	{args: "set serviceaccount deployment/made robot", want: []string{"serviceaccount updated"}},
	{args: "set selector service plain app=made", want: []string{"selector updated"}},
	{args: "rollout status deployment/web --timeout=90s", want: []string{"successfully rolled out"}},
	{args: "rollout history deployment/web", want: []string{"REVISION"}},
	{args: "rollout history deployment/web --revision=1", want: []string{imageV1}},
	{args: "rollout undo deployment/web --to-revision=1", want: []string{"rolled back"}},
	{args: "rollout pause deployment/web", want: []string{"paused"}},
	{args: "rollout resume deployment/web", want: []string{"resumed"}},
	{args: "rollout restart deployment/web", want: []string{"restarted"}},
	{args: "rollout status deployment/web --timeout=90s", want: []string{"successfully rolled out"}},
	{args: "expose deployment made --port=80 --target-port=8080 --name=exposed", want: []string{"service/exposed exposed"}},
	{args: "get service exposed -o jsonpath={.spec.selector.app}", want: []string{"made"}},
	// Inside.
	{args: "run one --image=$IMAGE --restart=Never -- print hello", want: []string{"pod/one created"}},
	{args: "run shell --image=$BOX --restart=Never --command -- sh -c while_:;do_sleep_1;done", want: []string{"pod/shell created"}},
	{args: "wait pod/shell --for=condition=Ready --timeout=90s", want: []string{"condition met"}},
	{args: "wait job/once --for=condition=Complete --timeout=90s", want: []string{"condition met"}},
	{args: "logs job/once", want: []string{"from-a-job\n"}},
	{args: "logs deployment/made --tail=1", want: []string{"serving on"}},
	{args: "logs deployment/made --timestamps", want: []string{"Z serving on"}},
	{args: "logs -l app=made --prefix", want: []string{"[pod/made-"}},
	{args: "logs nope", fails: true, want: []string{`pods "nope" not found`}},
	{args: "exec shell -- echo inside", want: []string{"inside\n"}},
	{args: "exec -i shell -- tr a-z A-Z", input: "shout", want: []string{"SHOUT"}},
	{args: "exec shell -- sh -c exit_3", fails: true, want: []string{"exit code 3"}},
	{args: "cp $DIR/file.txt shell:/tmp/file.txt"},
	{args: "exec shell -- cat /tmp/file.txt", want: []string{"from a file\n"}},
	{args: "cp shell:/tmp/file.txt $DIR/back.txt"},
	{args: "debug shell --image=$BOX -c look --target=shell -- cat /proc/1/cmdline", since: true},
	{args: "wait pod/shell --for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=0 --timeout=90s", since: true},
	{args: "logs shell -c look", since: true, want: []string{"while :"}},
	// Nodes.
	{args: "get node $NODE --show-labels", want: []string{"kubernetes.io/hostname=$NODE"}},
	{args: "cordon $NODE --dry-run=server", want: []string{"cordoned (server dry run)"}},
	{args: "drain $NODE --ignore-daemonsets --force --dry-run=server", want: []string{"drained"}},
	{args: "taint node $NODE checks/$SPACE=yes:PreferNoSchedule", want: []string{"tainted"}},
	{args: "taint node $NODE checks/$SPACE:PreferNoSchedule-", want: []string{"untainted"}},
	// Away.
	{args: "delete pod one --now", want: []string{`pod "one" deleted`}},
	{args: "delete pod shell --grace-period=0 --force", want: []string{"force deleted"}},
	{args: "delete -f $DIR/web.yaml", want: []string{`deployment.apps "web" deleted`}},
	{args: "delete -f $DIR/web.yaml --ignore-not-found"},
	{args: "delete deployment made --cascade=foreground", since: true, want: []string{"deleted"}},
	{args: "delete jobs --all", want: []string{`"once" deleted`}},
	{args: "delete services --all", want: []string{"deleted"}},
	{args: "delete configmap nope", fails: true, want: []string{"not found"}},
	{args: "wait deployment/web --for=delete --timeout=90s", since: true},
	{args: "delete -k $DIR/k", want: []string{"deleted"}},
}
