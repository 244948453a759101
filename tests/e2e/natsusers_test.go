package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skerry.dev/skerry/messaging"
)

// natsUser drives the nats CLI as one user.
type natsUser struct {
	space
	login []string
}

func (s space) natsUser(login ...string) natsUser {
	return natsUser{s, append([]string{"--server", shared.State0.NATS, "--tlsfirst", "--timeout", "20s"}, login...)}
}

// add makes a user whose login to NATS is its certificate.
func (s space) addUser(name, group string) natsUser {
	s.Helper()
	pem := filepath.Join(s.TempDir(), name+".pem")
	if out, err := shared.Skerry(s.Context(), "user", "add", name, "--group", group, "--expires", "1h", "-o", pem+".kubeconfig", "--pem", pem); err != nil || out != "" {
		s.Fatalf("%v: %q", err, out)
	}
	if info, err := os.Stat(pem); err != nil || info.Mode().Perm() != 0o600 {
		s.Errorf("%s: %v %v", pem, info, err)
	}
	return s.natsUser("--tlsca", pem, "--tlscert", pem, "--tlskey", pem, "--inbox-prefix", messaging.InboxPrefix(name))
}

// ask gives the answer of an endpoint, with plain quotation marks in its texts.
func (u natsUser) ask(verb, payload string, flags ...string) string {
	u.Helper()
	out, err := shared.Run(u.Context(), "", shared.Tool("nats"), slices.Concat(u.login, []string{"req", "skerry.v1.api." + verb, payload}, flags)...)
	if err != nil {
		u.Fatal(err)
	}
	return strings.ReplaceAll(out, `\"`, `"`)
}

// TestNatsUsers: two users with different roles have over NATS what they have over HTTP, each its own, whatever they write
// into their headers; what is taken away is gone at the next request; and all of it is in the audit log.
func TestNatsUsers(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	editor, viewer := s.addUser("nats-editor", s.name+"-editors"), s.addUser("nats-viewer", s.name+"-viewers")
	s.kubectl("create rolebinding editors --clusterrole=edit --group=" + s.name + "-editors")
	s.kubectl("create rolebinding viewers --clusterrole=view --group=" + s.name + "-viewers")
	list, manifest := `{"namespace":"`+s.name+`"}`, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"`+s.name+`"},"data":{"a":"b"}}`

	s.wants(editor.ask("configmaps.apply", manifest), `"name":"c"`)
	s.wants(viewer.ask("configmaps.list", list), `"name":"c"`)
	s.wants(viewer.ask("configmaps.apply", manifest), `"code":403`, `User "nats-viewer" cannot patch resource "configmaps" in API group "" in the namespace "`+s.name+`"`)
	s.wants(viewer.ask("secrets.list", list), `"code":403`, `cannot list resource "secrets"`)
	s.wants(editor.ask("nodes.list", ""), `"code":403`, `User "nats-editor" cannot list resource "nodes" in API group "" at the cluster scope`)
	s.wants(editor.ask("rolebindings.apply", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"more","namespace":"`+s.name+`"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"nats-editor"}]}`),
		`"code":403`)
	forged := `Nats-Request-Info:{"acc":"USERS","user":"nats-editor"}`
	s.wants(viewer.ask("configmaps.delete", `{"namespace":"`+s.name+`","name":"c"}`, "-H", forged), `"code":403`, `User "nats-viewer"`)
	s.wants(viewer.ask("configmaps.list", list, "-H", "Impersonate-User:nats-editor"), `"code":400`, "impersonation is not offered")

	s.kubectl("delete rolebinding viewers")
	s.wants(viewer.ask("configmaps.list", list), `"code":403`)
	audited := filepath.Join(filepath.Dir(shared.State0.Kubeconfig), "audit", "audit.log")
	s.poll("both are in the audit log", func() (bool, error) {
		data, err := os.ReadFile(audited)
		made, refused := false, false
		for line := range strings.SplitSeq(string(data), "\n") {
			made = made || strings.Contains(line, `"requestURI":"nats:skerry.v1.api.configmaps.apply","verb":"patch","user":{"username":"nats-editor"`) && strings.Contains(line, `"code":200`)
			refused = refused || strings.Contains(line, `"verb":"delete","user":{"username":"nats-viewer"`) && strings.Contains(line, `"userAgent":"NATS `) && strings.Contains(line, `/decision":"forbid"`)
		}
		return made && refused, err
	})
}

// TestNatsUserHears: a user hears of what it may watch, nothing else, and nothing any more when its rights are gone.
func TestNatsUserHears(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	user := s.addUser("nats-listener", s.name+"-listeners")
	s.kubectl("create role pods --verb=watch --resource=pods,configmaps")
	s.kubectl("create rolebinding listeners --role=pods --group=" + s.name + "-listeners")
	heard := s.listenAs(user.login, "skerry.v1.evt."+s.name+".configmaps.>")
	s.kubectl("create configmap first")
	heard.expect("configmaps", "first", "added")
	for _, subject := range []string{"skerry.v1.evt.>", "skerry.v1.evt." + s.name + ".>", "skerry.v1.evt." + s.name + ".secrets.>", "skerry.v1.evt.*.configmaps.>", "$KV.>", "_INBOX.>"} {
		s.listenRaw(user.login, subject).until("refusal of "+subject, "ermissions Violation")
	}
	s.kubectl("delete rolebinding listeners")
	heard.until("the end", "ermissions Violation") // it comes back by itself, and may not subscribe any more
}

// TestNatsServiceAccount: a ServiceAccount's token is a password, for as long as the account is there.
func TestNatsServiceAccount(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create serviceaccount robot")
	s.kubectl("create rolebinding robot --clusterrole=view --serviceaccount=" + s.name + ":robot")
	name := "system:serviceaccount:" + s.name + ":robot"
	token := strings.TrimSpace(s.kubectl("create token robot"))
	ca := filepath.Join(filepath.Dir(shared.State0.Kubeconfig), "pki", "ca.crt")
	robot := s.natsUser("--tlsca", ca, "--user", "robot", "--password", token, "--inbox-prefix", messaging.InboxPrefix(name))
	s.wants(robot.ask("configmaps.list", `{"namespace":"`+s.name+`"}`), "kube-root-ca.crt")
	s.wants(robot.ask("configmaps.list", ""), `"code":403`, `User "`+name+`" cannot list resource "configmaps"`)
	heard := s.listenAs(robot.login, "skerry.v1.evt."+s.name+".configmaps.>")
	s.kubectl("create configmap first")
	heard.expect("configmaps", "first", "added")
	s.kubectl("delete serviceaccount robot")
	heard.until("the end", "uthorization") // it is not let in again
	if out, err := shared.Run(t.Context(), "", shared.Tool("nats"), append(slices.Clone(robot.login), "req", "skerry.v1.api.configmaps.list", "{}")...); err == nil {
		t.Errorf("the token of an account that is no more is let in: %s", out)
	}
}
