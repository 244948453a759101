package registry_test

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skerry.dev/skerry/packaging/registry"
)

// toolsDir is the module of foreign programs that these tests run.
const toolsDir = "../../tests/tools/registry"

// buildTool builds a program of toolsDir; the go command caches it.
func buildTool(t *testing.T, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-C", toolsDir, "-o", out, pkg)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, msg)
	}
	return out
}

func run(t *testing.T, cmd string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), cmd, args...)
	c.Env = append(os.Environ(), "HOME="+t.TempDir()) // no credentials of ours
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", cmd, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestCraneAndSkopeo passes one image through both, each reading what the other wrote.
func TestCraneAndSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("needs skopeo: apt-get install skopeo")
	}
	crane := buildTool(t, "github.com/google/go-containerregistry/cmd/crane")
	_, srv := serve(t, registry.Options{})
	img := pushRandom(t, srv, "seed:1")
	at, dir := host(srv), t.TempDir()

	run(t, crane, "copy", at+"/seed:1", at+"/by/crane:1")
	run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+at+"/by/crane:1", "oci:"+dir+":x")
	run(t, "skopeo", "copy", "--dest-tls-verify=false", "oci:"+dir+":x", "docker://"+at+"/by/skopeo:2")
	run(t, crane, "pull", at+"/by/skopeo:2", filepath.Join(t.TempDir(), "image.tar"))

	want := layerDigests(t, run(t, crane, "manifest", at+"/seed:1"))
	if got := layerDigests(t, run(t, crane, "manifest", at+"/by/skopeo:2")); !slices.Equal(got, want) {
		t.Errorf("layers after both are %v, want %v", got, want)
	}
	if got := run(t, crane, "digest", at+"/by/crane:1"); got != digestString(t, img) {
		t.Errorf("digest %s, want %s", got, digestString(t, img))
	}
	if got := run(t, crane, "catalog", at); got != "by/crane\nby/skopeo\nseed" {
		t.Errorf("catalog %q", got)
	}
	run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+at+"/by/skopeo:2")
	if got := run(t, crane, "ls", at+"/by/skopeo"); got != "" {
		t.Errorf("tags after delete: %q, want none", got)
	}
}

func layerDigests(t *testing.T, manifest string) (out []string) {
	t.Helper()
	var m struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal([]byte(manifest), &m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("manifest %s: %v", manifest, err)
	}
	for _, l := range m.Layers {
		out = append(out, l.Digest)
	}
	return out
}

// TestConformance runs the specification's own suite.
func TestConformance(t *testing.T) {
	suite := buildTool(t, "github.com/opencontainers/distribution-spec/conformance")
	_, srv := serve(t, registry.Options{})
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+host(srv), "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir, "OCI_VERSION=1.1",
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true")
	out, err := cmd.CombinedOutput()
	total := reportConformance(t, filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatalf("conformance: %v\n%s", err, out)
	}
	if total < 100 {
		t.Errorf("the suite ran %d tests, want 100 or more: did it run?", total)
	}
}

// reportConformance turns the suite's report into failures here.
func reportConformance(t *testing.T, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("conformance report: %v", err)
	}
	type testCase struct {
		Name    string `xml:"name,attr"`
		Failure *struct {
			Text string `xml:",innerxml"`
		} `xml:"failure"`
		Err *struct {
			Text string `xml:",innerxml"`
		} `xml:"error"`
		Skipped *struct{} `xml:"skipped"`
	}
	var report struct {
		Suites []struct {
			Cases []testCase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		t.Fatalf("conformance report: %v", err)
	}
	total, skipped := 0, 0
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			total++
			switch {
			case c.Failure != nil:
				t.Errorf("%s: %.2000s", c.Name, c.Failure.Text)
			case c.Err != nil:
				t.Errorf("%s: %.2000s", c.Name, c.Err.Text)
			case c.Skipped != nil:
				skipped++
			}
		}
	}
	t.Logf("conformance: %d tests, %d skipped", total, skipped)
	return total
}
