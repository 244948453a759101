package apiserver_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/tests/bench/server"
)

var upstream = flag.Bool("upstream", false, "ask upstream's API server, which make bench builds, and rewrite testdata/upstream")

// ours says where our answer is another than upstream's, and why.
// Elsewhere upstream calls an error of the client's an internal one (500): here it is the client's.
var ours = map[string]string{
	"> GET /apis/nothing.example/v1/things":                                   "upstream's is no Status, which clients read",
	"> GET /api/v1/namespaces/default/configmaps?watch=1&resourceVersion=abc": "500",
	"> GET /api/v1/namespaces/default/configmaps/a?resourceVersion=abc":       "500",
	"> GET /api/v1/namespaces/default/configmaps\n> Accept: text/csv":         "the words are of upstream's router",
	`> POST /api/v1/namespaces/default/configmaps
{"kind":"Secret","apiVersion":"v1","metadata":{"name":"b"}}`: "upstream goes on to name its internal types",
	`> POST /api/v1/namespaces/default/configmaps
{"metadata":{"name":"b","resourceVersion":"5"}}`: "500",
	`> PUT /api/v1/namespaces/default/configmaps/a
{"metadata":{"name":"a","resourceVersion":"x"}}`: "500",
	`> PUT /api/v1/namespaces/default/configmaps/a
{"metadata":{"name":"a","uid":"no"}}`: "upstream goes on to name a key of etcd",
	`> PATCH /api/v1/namespaces/default/configmaps/a
> Content-Type: application/json
{}`: "the words are of upstream's router",
	`> PATCH /api/v1/namespaces/default/configmaps/a
> Content-Type: application/apply-patch+cbor
x`: "the words are of upstream's router",
	`> PATCH /api/v1/namespaces/default/configmaps/a
> Content-Type: application/json-patch+json
[{"op":"test","path":"/data/k","value":"x"}]`: "upstream does not say what does not fit",
	`> PATCH /api/v1/namespaces/default/configmaps/a
> Content-Type: application/json-patch+json
[{"op":"remove","path":"/data/missing"}]`: "upstream does not say what does not fit",
	`> PATCH /api/v1/namespaces/default/configmaps/a
> Content-Type: application/json-patch+json
{"op":"remove"}`: "upstream names its Go type",
	`> PATCH /apis/apps/v1/namespaces/default/deployments/web
> Content-Type: application/strategic-merge-patch+json
{"spec":{"template":{"spec":{"containers":[{"image":"y"}]}}}}`: "500",
	`> PATCH /apis/apps/v1/namespaces/default/deployments/web
> Content-Type: application/strategic-merge-patch+json
{"spec":{"replicas":"many"}}`: "upstream does not say which field",
	`> PATCH /apis/apps/v1/namespaces/default/deployments/web
> Content-Type: application/strategic-merge-patch+json
{"spec":{"template":{"spec":{"containers":[{"name":"c","$patch":"nonsense"}]}}}}`: "500",
	`> POST /apis/authorization.k8s.io/v1/subjectaccessreviews
{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"user":"a"}}`: "upstream goes on to name its internal types",
	`> DELETE /api/v1/namespaces/default/configmaps/a
{"kind":"Secret","apiVersion":"v1"}`: "upstream says that it does not know Secrets",
}

// moving is what no two servers say alike: revisions, random names, and how an object looks with a patch applied.
var moving = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`current: \d+`), "current: N"},
	{regexp.MustCompile(`in record \(\d+\)`), "in record (N)"},
	{regexp.MustCompile(`,"managedFields":\[[^\]]*\]`), ""}, // what is never stored has none here
	{regexp.MustCompile(`Bad_[a-z0-9]{5}`), "Bad_xxxxx"},
	{regexp.MustCompile(`patch: Invalid value: ".*": (json|strict|illegal)`), "patch: Invalid value: ...: $1"},
	{regexp.MustCompile(`^Invalid value: "{.*}(\\n)?": (json|strict|illegal)`), "Invalid value: ...: $2"},
}

func steady(s string) string {
	for _, m := range moving {
		s = m.from.ReplaceAllString(s, m.to)
	}
	return mask(s)
}

// TestUpstream sends requests and wants what upstream's API server answered when the file was written.
func TestUpstream(t *testing.T) {
	files, err := filepath.Glob("testdata/upstream/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			file, err := filepath.Abs(file) // the working directory is going to be another
			if err != nil {
				t.Fatal(err)
			}
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if *upstream {
				script = runScript(startUpstream(t), script, writeStatus)
				if err := os.WriteFile(file, script, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			compare(t, script, runScript(start(t), script, writeStatus))
		})
	}
}

// compare takes the answers one by one, so that each difference shows its request.
func compare(t *testing.T, want, got []byte) {
	t.Helper()
	wants, gots := requests(want), requests(got)
	if len(wants) != len(gots) {
		t.Fatalf("%d answers to %d requests", len(gots), len(wants))
	}
	for i := range wants {
		head, _, _ := strings.Cut(wants[i], "<\n")
		reason := ours[strings.TrimSpace(head)]
		switch same := wants[i] == gots[i]; {
		case same && reason != "":
			t.Errorf("%s\nanswers as upstream does: it is not to be listed", head)
		case same, reason != "":
			continue
		}
		t.Errorf("%s\n(- upstream, + ours):\n%s", head, cmp.Diff(strings.Split(wants[i], "\n"), strings.Split(gots[i], "\n")))
	}
}

// requests cuts a script into requests with their answers.
func requests(script []byte) []string {
	var out []string
	answered := true
	scanner := bufio.NewScanner(bytes.NewReader(script))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "> ") && answered:
			out = append(out, "")
			answered = false
		case line == "<":
			answered = true
		}
		if len(out) > 0 {
			out[len(out)-1] += line + "\n"
		}
	}
	return out
}

// startUpstream is a cluster of upstream's API server.
func startUpstream(t *testing.T) *cluster {
	t.Helper()
	t.Chdir("../..") // programs are found from there
	s, err := server.Kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := s.Client(server.JSON, false)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, url: s.URL(), client: client.Client}
}

// writeStatus writes of an answer what clients act on: of an object that it is one.
func writeStatus(out *bytes.Buffer, a answer) {
	fmt.Fprintln(out, a.code)
	for _, v := range a.header.Values("Warning") {
		fmt.Fprintf(out, "Warning: %s\n", mask(v))
	}
	var s metav1.Status
	if json.Unmarshal(a.body, &s) != nil || s.Kind != "Status" {
		fmt.Fprintln(out)
		return
	}
	fmt.Fprintf(out, "%s: %s\n", s.Reason, steady(s.Message))
	if d := s.Details; d != nil {
		fmt.Fprintf(out, "of %q %q %q, retry after %d\n", d.Group, d.Kind, steady(d.Name), d.RetryAfterSeconds)
		for _, c := range d.Causes {
			fmt.Fprintf(out, "%s %s: %s\n", c.Type, c.Field, steady(c.Message))
		}
	}
	fmt.Fprintln(out)
}
