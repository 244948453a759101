package table_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/apiserver/table"
	"skerry.dev/skerry/coordinator/resource"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// now is when the objects in testdata are looked at.
var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestRows renders the objects of testdata/objects.yaml, one table per kind, into testdata/tables.txt.
func TestRows(t *testing.T) {
	data, err := os.ReadFile("testdata/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	w := tabwriter.NewWriter(&got, 0, 0, 2, ' ', 0)
	last := ""
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		obj := object(t, doc)
		kind := obj.GetObjectKind().GroupVersionKind().GroupKind()
		layout := table.For(kind)
		if kind.String() != last {
			last = kind.String()
			w.Flush()
			fmt.Fprintf(&got, "\n%s\n", kind)
			header(w, layout)
		}
		row := layout.Row(obj, now)
		for _, c := range row.Cells {
			fmt.Fprintf(w, "%v\t", c)
		}
		for _, c := range row.Conditions {
			fmt.Fprintf(w, "(%s: %s)", c.Type, c.Reason)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	compare(t, "testdata/tables.txt", got.Bytes())
}

func header(w *tabwriter.Writer, l table.Layout) {
	for _, c := range l.Columns() {
		name := strings.ToUpper(c.Name)
		if c.Priority > 0 {
			name = "+" + name
		}
		fmt.Fprintf(w, "%s\t", name)
	}
	fmt.Fprintln(w)
}

func object(t *testing.T, doc string) runtime.Object {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	obj, _, err := resource.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	if _, err := meta.Accessor(obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("tables differ; run with -update and read the diff. got:\n%s", got)
	}
}
