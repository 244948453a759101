package coordinator

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

// TestExampleManifestsAreStrictlyValid reads every manifest that we hand out as the API would.
func TestExampleManifestsAreStrictlyValid(t *testing.T) {
	files, err := filepath.Glob("../configs/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal(doc, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			res := resource.ForKind(schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind))
			if res == nil {
				t.Fatalf("%s: kind %s %s is not served", file, kind.APIVersion, kind.Kind)
			}
			if _, _, err := objects.DecodeStrict(doc, "application/yaml", res, metav1.FieldValidationStrict); err != nil {
				t.Errorf("%s: %s: %v", file, kind.Kind, err)
			}
		}
	}
}
