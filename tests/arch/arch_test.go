// Package arch holds the rules of ARCHITECTURE.md section 4 that a compiler does not check: which package may import
// which, which are pure, and that each says what it is for.
package arch

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "skerry.dev/skerry"

// layer is a folder and what of this module it may import, besides itself and what is below it.
var layers = []struct {
	folder string
	may    []string
}{
	{"api", nil},
	{"configs", nil},
	{"hwprobe", []string{"api"}},
	{"messaging", []string{"api"}},
	{"packaging", []string{"api"}},
	{"coordinator", []string{"api", "messaging", "packaging", "configs"}},
	{"edgeagent", []string{"api", "messaging", "packaging", "hwprobe", "configs"}},
	{"cmd/skerry-coordinator", []string{"api", "coordinator", "configs"}},
	{"cmd/skerry-agent", []string{"api", "edgeagent", "hwprobe", "configs"}},
	{"cmd/skerry-keeper", []string{"api", "edgeagent/keeper"}},
	{"cmd/skerry", []string{"api", "coordinator", "edgeagent/boot", "edgeagent/network/netns", "edgeagent/proxy", "configs", "packaging", "messaging", "hwprobe"}},
}

// only are packages that one folder alone may import.
var only = map[string][]string{
	"github.com/opencontainers/runc":    {"edgeagent/keeper/server", "cmd/skerry-keeper"},
	"github.com/nats-io/nats-server/v2": {"messaging/embedded", "messaging/natstest"},
	"k8s.io/kubernetes":                 {"coordinator/objects/defaults", "coordinator/objects/validation", "tests/conformance/catalog", "coordinator/resource/autoscaling"},
}

// pure packages decide; they have no clock, no I/O, no goroutine, no logger and no context.
var pure = []string{
	"api", "coordinator/scheduler", "edgeagent/pod", "edgeagent/eviction",
	"coordinator/controller/deployment", "coordinator/controller/replicaset", "coordinator/controller/nodelifecycle",
	"coordinator/controller/garbage", "coordinator/controller/endpoints", "coordinator/controller/rebalance",
	"coordinator/controller/job", "coordinator/controller/cronjob", "coordinator/controller/history", "coordinator/controller/daemonset",
	"coordinator/controller/statefulset", "coordinator/controller/autoscaler", "coordinator/controller/disruption",
	"coordinator/controller/resourcequota", "coordinator/quota",
	"coordinator/controller/clusterrole", "coordinator/controller/serviceaccount",
}

var impure = []string{"context", "io", "net", "net/http", "os", "os/exec", "log", "log/slog", "sync", "math/rand", "math/rand/v2"}

// binaries are what a binary must not link, by package path prefix.
var binaries = map[string][]string{
	"cmd/skerry-agent":  {"k8s.io/client-go", "k8s.io/apiserver", "k8s.io/kubernetes", "github.com/nats-io/nats-server", "github.com/opencontainers/runc", module + "/coordinator"},
	"cmd/skerry-keeper": {"net/http", "github.com/nats-io", "k8s.io/api/", module + "/coordinator", module + "/messaging"},
}

type goPackage struct {
	ImportPath, Dir, Doc string
	Imports, Deps        []string
	GoFiles              []string
}

// list asks the go command, so that build tags are what they are for the shipped binaries.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Doc,Imports,Deps,GoFiles"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func rel(path string) (string, bool) {
	r, ok := strings.CutPrefix(path, module+"/")
	return r, ok
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestArrowsPointDown(t *testing.T) {
	for _, p := range list(t, "./...") {
		from, ok := rel(p.ImportPath)
		if !ok || within(from, "tests") {
			continue
		}
		folder, may := "", []string(nil)
		for _, l := range layers {
			if within(from, l.folder) && len(l.folder) > len(folder) {
				folder, may = l.folder, l.may
			}
		}
		for _, imported := range p.Imports {
			to, ours := rel(imported)
			if !ours || folder == "" || within(to, folder) {
				continue
			}
			if !anyWithin(to, may) {
				t.Errorf("%s imports %s; %s may import only %v", from, to, folder, may)
			}
		}
		for foreign, allowed := range only {
			for _, imported := range p.Imports {
				if within(imported, foreign) && !anyWithin(from, allowed) {
					t.Errorf("%s imports %s; only %v may", from, imported, allowed)
				}
			}
		}
	}
}

func anyWithin(path string, folders []string) bool {
	for _, f := range folders {
		if within(path, f) {
			return true
		}
	}
	return false
}

func TestPurePackages(t *testing.T) {
	for _, folder := range pure {
		for _, p := range list(t, "./"+folder) {
			for _, bad := range impure {
				for _, imported := range p.Imports {
					if imported == bad {
						t.Errorf("pure package %s imports %s", folder, bad)
					}
				}
			}
			for _, name := range p.GoFiles {
				for _, fault := range impurities(t, filepath.Join(p.Dir, name)) {
					t.Errorf("pure package %s: %s", folder, fault)
				}
			}
		}
	}
}

// impurities finds the uses of the clock and the go statements of a file.
func impurities(t *testing.T, path string) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var faults []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			faults = append(faults, fmt.Sprintf("%s starts a goroutine", fset.Position(n.Pos())))
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && (x.Name == "time" && (n.Sel.Name == "Now" || n.Sel.Name == "Since" || n.Sel.Name == "Until" || n.Sel.Name == "After") || x.Name == "metav1" && n.Sel.Name == "Now") {
				faults = append(faults, fmt.Sprintf("%s reads the clock", fset.Position(n.Pos())))
			}
		}
		return true
	})
	return faults
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range list(t, "./...") {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no doc comment", p.ImportPath)
		}
	}
}

func TestBinariesStaySmall(t *testing.T) {
	for binary, banned := range binaries {
		for _, p := range list(t, "./"+binary) {
			for _, dep := range p.Deps {
				for _, b := range banned {
					if within(dep, strings.TrimSuffix(b, "/")) {
						t.Errorf("%s links %s", binary, dep)
					}
				}
			}
		}
	}
}

// TestFilesStayReadable is a ratchet on length; a generated file is nobody's to read.
func TestFilesStayReadable(t *testing.T) {
	const limit = 600
	for _, p := range list(t, "./...") {
		for _, name := range p.GoFiles {
			data, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(data), "\n"); lines > limit && !strings.HasPrefix(name, "zz_generated") {
				t.Errorf("%s/%s has %s lines, more than %d", p.ImportPath, name, strconv.Itoa(lines), limit)
			}
		}
	}
}
