package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/tests/conformance/catalog"
)

func TestReadReport(t *testing.T) {
	got, err := readReport("testdata/ginkgo.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].When = got[i].When.UTC()
	}
	var b strings.Builder
	for _, r := range got {
		b.WriteString(r.State + " | " + r.Name + " | " + r.Reason + "\n")
	}
	want := `passed | [sig-x] Pods should run [Conformance] | 
failed | [sig-x] Pods should stop [Conformance] | it runs (pods.go:12)
skipped | [sig-x] Pods should fly [Conformance] | no wings
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestFocusFindsOnlyTheSpecs(t *testing.T) {
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	one := c.Specs[7]
	found, err := c.Match(focus([]catalog.Spec{one}))
	if err != nil || len(found) != 1 || found[0].Name != one.Name {
		t.Errorf("focus on %q finds %v, %v", one.Name, found, err)
	}
}

func TestResume(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	l, err := openLedger(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.add("b1", []result{{Name: "a", State: passed}, {Name: "b", State: failed, Reason: "why"}, {Name: "d", State: failed, Reason: "tried once"}}); err != nil {
		t.Fatal(err)
	}
	if l, err = openLedger(file); err != nil {
		t.Fatal(err)
	}
	out := &catalog.Exception{Reason: "left out"}
	specs := []catalog.Spec{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Exception: out}}
	for _, test := range []struct {
		o     options
		build string
		want  string
	}{
		{options{}, "b1", "b c"},
		{options{again: true}, "b1", "a b c"},
		{options{exceptions: true}, "b1", "b c d"},
		{options{}, "b2", "a b c"},
		{options{anyBuild: true}, "b2", "b c"},
	} {
		var names []string
		for _, s := range test.o.choose(specs, l, test.build) {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%+v, build %s: runs %q, want %q", test.o, test.build, got, test.want)
		}
	}
	r := newReport("b2", specs, l)
	if got := r.String(); got != "1 passed, 1 failed, 1 skipped, 1 not run" {
		t.Error(got)
	}
	want := "# Conformance of build b2\n\n1 passed, 1 failed, 1 skipped, 1 not run.\n" +
		"\n## Failed: 1\n\nwhy\n- `b`, of build b1\n\n## Not run: 1\n\n\n- `c`\n\n## Skipped: 1\n\nleft out\n- `d`\n\n## Passed: 1\n\n\n- `a`, of build b1\n"
	if diff := cmp.Diff(want, r.markdown()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestLedgerThatIsBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLedger(file); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("error %v does not say what to do", err)
	}
}

func TestProgress(t *testing.T) {
	var out strings.Builder
	var noted []string
	p := &progress{out: &out, specs: []catalog.Spec{{Name: "[sig-x] A should b [Conformance]"}, {Name: "[sig-x] A should c [Conformance]"}}}
	p.note = func(r result) error {
		noted = append(noted, r.State+" "+r.Name)
		return nil
	}
	for _, piece := range []string{
		"noise\n• [1.2 sec", "onds]\n[sig-x] A should b [Conformance] [sig-x, Conformance]\nmore\n",
		"SS• [FAILED] [3 seconds]\n[sig-x] A [BeforeEach] should c [Conformance] [sig-x, Conformance]\n",
		"• [FAILED] [0.1 seconds]\n[SynchronizedBeforeSuite] \n", "• [INTERRUPTED] [3 seconds]\n[sig-x] A [It] should c [Conformance]\n",
	} {
		if _, err := p.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	want := "  1 of 2 passed, 0 failed\n  1 of 2 passed, 1 failed FAILED [sig-x] A should c [Conformance]\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"passed [sig-x] A should b [Conformance]", "failed [sig-x] A should c [Conformance]"}, noted); diff != "" {
		t.Errorf("noted (-want +got):\n%s", diff)
	}
}
