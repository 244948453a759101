package catalog

import (
	_ "embed" // the record
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed record.yaml
var recordYAML []byte

// Record is how the last runs went. `go run ./tests/conformance record` writes it from the results of real runs.
type Record struct {
	Machine string       `json:"machine"` // that they ran on
	Areas   []AreaRecord `json:"areas"`
	Open    []Open       `json:"open,omitempty"` // specs that are meant to pass and have not
}

// AreaRecord counts the specs of an area that are meant to pass.
type AreaRecord struct {
	Area   string `json:"area"`
	Passed int    `json:"passed"`
	Meant  int    `json:"meant"`
	First  string `json:"first,omitempty"` // day of the oldest of the passes, empty when there is none
	Last   string `json:"last,omitempty"`
	Builds int    `json:"builds"` // of Skerry that the passes are from
}

// Open is a spec that is meant to pass and has not.
type Open struct {
	Spec   string `json:"spec"`
	Reason string `json:"reason"` // what the spec said, on one line, or that it was not run
}

func readRecord() (Record, error) {
	var r Record
	if err := yaml.UnmarshalStrict(recordYAML, &r); err != nil {
		return r, fmt.Errorf("read record.yaml: %w", err)
	}
	return r, nil
}

// write writes the record's part of the page.
func (r *Record) write(b *strings.Builder) {
	fmt.Fprintf(b, "Each spec's last run, on %s:\n\n", r.Machine)
	b.WriteString("| area | passed of meant | when | builds |\n| --- | --- | --- | --- |\n")
	passed, meant := 0, 0
	for _, a := range r.Areas {
		fmt.Fprintf(b, "| %s | %d of %d | %s | %d |\n", a.Area, a.Passed, a.Meant, a.days(), a.Builds)
		passed, meant = passed+a.Passed, meant+a.Meant
	}
	fmt.Fprintf(b, "| **all** | %d of %d | | |\n", passed, meant)
	if len(r.Open) == 0 {
		return
	}
	b.WriteString("\nMeant to pass, and not seen to pass yet:\n\n")
	for _, o := range r.Open {
		fmt.Fprintf(b, "- `%s`: %s\n", o.Spec, o.Reason)
	}
}

func (a *AreaRecord) days() string {
	if a.First == a.Last {
		return a.First
	}
	return a.First + " to " + a.Last
}
