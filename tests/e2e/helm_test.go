package e2e

import (
	"strings"
	"testing"
)

// TestHelm goes through a release's life with helm as its authors publish it: a chart of what most charts are made of, a
// Job as a hook and RBAC among it.
func TestHelm(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	const chart = "testdata/chart"
	steps := []struct {
		args  string
		want  []string
		fails bool
	}{
		{args: "version --short", want: []string{"v3."}},
		{args: "create DIR/made", want: []string{"Creating"}},
		{args: "lint DIR/made", want: []string{"0 chart(s) failed"}},
		{args: "lint " + chart, want: []string{"1 chart(s) linted, 0 chart(s) failed"}},
		{args: "template shop " + chart, want: []string{"kind: Deployment", "replicas: 2"}},
		{args: "install shop DIR/made --dry-run=server --set replicaCount=1", want: []string{"STATUS: pending-install"}},
		{args: "install shop " + chart + " --wait --timeout=90s", want: []string{"STATUS: deployed", "REVISION: 1", "The shop is green"}},
		{args: "install shop " + chart, fails: true, want: []string{"cannot re-use a name that is still in use"}},
		{args: "list", want: []string{"shop", "deployed", "shop-0.1.0"}},
		{args: "status shop", want: []string{"STATUS: deployed"}},
		{args: "get manifest shop", want: []string{"kind: RoleBinding"}},
		{args: "get values shop --all", want: []string{"colour: green"}},
		{args: "get hooks shop", want: []string{"shop-prepare", "shop-test"}},
		{args: "get notes shop", want: []string{"The shop is green"}},
		{args: "test shop --timeout=90s", want: []string{"Phase:          Succeeded"}},
		{args: "upgrade shop " + chart + " --set replicas=3,colour=red --wait --timeout=90s", want: []string{"has been upgraded", "REVISION: 2"}},
		{args: "upgrade shop " + chart + " --set replicas=none --wait", fails: true, want: []string{"replicas"}},
		{args: "history shop", want: []string{"superseded", "deployed", "failed"}},
		{args: "rollback shop 1 --wait --timeout=90s", want: []string{"Rollback was a success"}},
		{args: "history shop --max=1", want: []string{"Rollback to 1"}},
		{args: "upgrade --install other " + chart + " --wait --timeout=90s", want: []string{`Release "other" does not exist. Installing it now.`}},
		{args: "list -q", want: []string{"other\nshop\n"}},
		{args: "uninstall other --wait --timeout=90s", want: []string{`release "other" uninstalled`}},
	}
	dir := t.TempDir()
	for _, step := range steps {
		s.helm(strings.ReplaceAll(step.args, "DIR", dir), step.fails, step.want...)
	}
	s.readyPods("app=shop", 2)
	s.steps(
		step{args: "get cm shop -o jsonpath={.data.colour}", want: []string{"green"}},
		step{args: "auth can-i get configmaps --as=system:serviceaccount:" + s.name + ":shop", want: []string{"yes"}},
		step{args: "logs job/shop-prepare", want: []string{"prepared\n"}},
	)
	s.helm("uninstall shop --wait --timeout=90s", false, `release "shop" uninstalled`)
	s.helm("list -q", false, "!shop")
	s.steps(step{args: "get deploy,svc,cm,rolebinding", want: []string{"!/shop"}})
	t.Logf("helm: %d checks", len(steps)+2)
}

func (s space) helm(args string, fails bool, want ...string) {
	s.Helper()
	out, err := shared.Run(s.Context(), "", shared.Tool("helm"), append(strings.Fields(args), "-n", s.name)...)
	if (err != nil) != fails {
		s.Fatalf("helm %s: failed %t, want %t: %v\n%s", args, err != nil, fails, err, out)
	}
	if err != nil {
		out += err.Error()
	}
	s.Logf("helm %s\n%.300s", args, out)
	s.wants(out, want...)
}
