package hwprobe

import (
	"encoding/json"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
)

var (
	update  = flag.Bool("update", false, "write what the boards give now to testdata/*.json")
	capture = flag.String("capture", "", "write what Probe reads of this machine to a file, for testdata (look through it for serial numbers first)")
)

// node is what a board gives.
type node struct {
	Labels    map[string]string   `json:"labels"`
	Capacity  corev1.ResourceList `json:"capacity"`
	Inventory api.Inventory       `json:"inventory"`
}

func probe(t testing.TB, fsys fs.FS) node {
	t.Helper()
	inv, err := Probe(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return node{Labels(inv), Capacity(inv, 1<<35, 110), inv}
}

func TestBoards(t *testing.T) {
	for _, name := range boards(t) {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(probe(t, readBoard(t, name)), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".json")
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestCapture shows that a captured board gives what the machine itself gives: Probe reads nothing else.
func TestCapture(t *testing.T) {
	r := &recorder{FS: os.DirFS("/"), board: fstest.MapFS{}}
	want := probe(t, r)
	text := writeBoard(r.board)
	if *capture != "" {
		if err := os.WriteFile(*capture, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	board, err := parseBoard(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, probe(t, board)); diff != "" {
		t.Errorf("the captured board differs from the machine (-machine +board):\n%s", diff)
	}
}

func TestNothingToProbe(t *testing.T) {
	if _, err := Probe(fstest.MapFS{}); err == nil {
		t.Error("a machine without /proc was probed")
	}
	got := probe(t, fstest.MapFS{"proc": {Mode: fs.ModeDir | 0o555}})
	check(t, got)
	if got.Inventory.CPU.Threads != 0 || got.Inventory.Disks != nil || got.Inventory.TPM != nil {
		t.Errorf("hardware out of nothing: %+v", got.Inventory)
	}
	if diff := cmp.Diff(map[string]string{corev1.LabelOSStable: "linux"}, got.Labels); diff != "" {
		t.Errorf("labels out of nothing (-want +got):\n%s", diff)
	}
}

// TestBoardsInPieces takes files, links and folders away, one in turn.
func TestBoardsInPieces(t *testing.T) {
	for _, name := range boards(t) {
		board := readBoard(t, name)
		for i, path := range slices.Sorted(maps.Keys(board)) {
			if i%3 != 0 {
				continue
			}
			less := maps.Clone(board)
			delete(less, path)
			check(t, probe(t, less))
		}
	}
}
