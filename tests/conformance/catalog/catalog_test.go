package catalog

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustNew(t *testing.T) *Catalog {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListsFitUpstream(t *testing.T) {
	c := mustNew(t)
	if len(c.Specs) < 400 {
		t.Errorf("%d specs; upstream has more than 400", len(c.Specs))
	}
	for _, s := range c.Specs {
		if s.Area == "other" {
			t.Errorf("no area: %s", s.Name)
		}
	}
	if _, err := c.Focus(); err != nil {
		t.Error(err)
	}
}

func TestPageIsUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(page), mustNew(t).Markdown()); diff != "" {
		t.Errorf("docs/conformance.md differs, run `go generate ./tests/conformance`:\n%s", diff)
	}
}

func TestExceptions(t *testing.T) {
	c := &Catalog{Specs: []Spec{{Name: "[sig-x] a"}}, Never: []Exception{{Reason: "one", Specs: []string{"] a"}}, {Reason: "two", Specs: []string{"[sig-x]"}}}}
	if _, err := c.exception("[sig-x] a"); err == nil {
		t.Error("no error for a spec that is meant twice")
	}
	c.Never = []Exception{{Specs: []string{"] b"}}}
	if err := c.checkUsed(); err == nil {
		t.Error("no error for an exception that means nothing")
	}
}
