package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"skerry.dev/skerry/tests/conformance/catalog"
)

// report is what a run says in the end.
type report struct {
	Build   string   `json:"build"` // of this run; results may be older, and say so
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Skipped int      `json:"skipped"`
	NotRun  int      `json:"notRun"` // the run was cut short
	Specs   []result `json:"specs"`
}

const notRun = "not run"

// newReport says how each of the specs went, in their order.
func newReport(build string, specs []catalog.Spec, l *ledger) *report {
	r := &report{Build: build}
	for _, s := range specs {
		res, ran := l.results[s.Name]
		switch {
		case ran && (s.Exception == nil || res.Build == build): // an exception may have been tried with another build
		case s.Exception != nil:
			res = result{Name: s.Name, State: skipped, Reason: s.Exception.Reason}
		default:
			res = result{Name: s.Name, State: notRun}
		}
		r.Specs = append(r.Specs, res)
		r.count(res.State)
	}
	return r
}

func (r *report) count(state string) {
	switch state {
	case passed:
		r.Passed++
	case failed:
		r.Failed++
	case skipped:
		r.Skipped++
	default:
		r.NotRun++
	}
}

// write writes report.json for programs and report.md for people.
func (r *report) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "report.md"), []byte(r.markdown()), 0o644),
	)
}

func (r *report) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped, %d not run", r.Passed, r.Failed, r.Skipped, r.NotRun)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance of build %s\n\n%s.\n", r.Build, r)
	for _, state := range []string{failed, notRun, skipped, passed} {
		r.section(&b, state)
	}
	return b.String()
}

// section lists the specs of one state; those with a reason are grouped by it.
func (r *report) section(b *strings.Builder, state string) {
	specs := slices.DeleteFunc(slices.Clone(r.Specs), func(s result) bool { return s.State != state })
	if len(specs) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s%s: %d\n", strings.ToUpper(state[:1]), state[1:], len(specs))
	slices.SortStableFunc(specs, func(x, y result) int { return cmp.Compare(x.Reason, y.Reason) })
	reason := ""
	for i, s := range specs {
		if i == 0 || s.Reason != reason {
			reason = s.Reason
			fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(reason))
		}
		fmt.Fprintf(b, "- `%s`%s\n", s.Name, s.remark(r.Build))
	}
}

func (s result) remark(build string) string {
	text := ""
	if s.Seconds > 0 {
		text = fmt.Sprintf(" %gs", s.Seconds)
	}
	if s.Build != "" && s.Build != build {
		text += ", of build " + s.Build
	}
	return text
}
