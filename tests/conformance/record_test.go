package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/tests/conformance/catalog"
)

func TestRecordCountsOnlyPasses(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 12, 0, 0, 0, time.UTC) }
	c := &catalog.Catalog{Specs: []catalog.Spec{
		{Name: "a1", Area: "a"},
		{Name: "a2", Area: "a"},
		{Name: "a3", Area: "a"},
		{Name: "a4", Area: "a"},
		{Name: "a5", Area: "a", Exception: &catalog.Exception{}},
		{Name: "b1", Area: "b"},
	}}
	l := &ledger{results: map[string]result{
		"a1": {State: passed, When: day(2), Build: "x"}, "a2": {State: passed, When: day(1), Build: "y"},
		"a3": {State: failed, Reason: "no\n  luck", When: day(3), Build: "z"}, "a5": {State: passed, When: day(9), Build: "z"},
		"b1": {State: skipped, Reason: "too few nodes"},
	}}
	want := catalog.Record{
		Machine: "here",
		Areas:   []catalog.AreaRecord{{Area: "a", Passed: 2, Meant: 4, First: "2026-01-01", Last: "2026-01-02", Builds: 2}, {Area: "b", Meant: 1}},
		Open:    []catalog.Open{{Spec: "a3", Reason: "no luck"}, {Spec: "a4", Reason: "not run"}, {Spec: "b1", Reason: "too few nodes"}},
	}
	if diff := cmp.Diff(want, newRecord(c, l, "here")); diff != "" {
		t.Error(diff)
	}
}
