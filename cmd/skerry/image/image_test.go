package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/cmd/skerry/image"
	"skerry.dev/skerry/packaging/registry"
)

// cluster is an API server with nothing but a registry.
type cluster struct{ srv *httptest.Server }

func (c cluster) Host() string                 { return c.srv.Listener.Addr().String() }
func (c cluster) Transport() http.RoundTripper { return bearer{c.srv.Client().Transport} }

// bearer adds the user's token, as the transport of a kubeconfig does.
type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer right")
	return b.next.RoundTrip(req)
}

// world runs commands against a store and a cluster of its own.
type world struct {
	t       *testing.T
	store   string
	connect image.Connect
}

func newWorld(t *testing.T) *world {
	t.Helper()
	reg, err := registry.New(registry.Options{Dir: t.TempDir(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer right" {
			registry.Challenge(w, "skerry", "log in")
			return
		}
		reg.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		srv.Close()
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t: t, store: filepath.Join(t.TempDir(), "images"), connect: func() (image.Cluster, error) { return cluster{srv}, nil }}
}

func (w *world) run(args ...string) (stdout string, err error) {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := image.NewCommand(w.connect)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(append([]string{"--store", w.store}, args...))
	err = cmd.ExecuteContext(w.t.Context())
	if errs.Len() > 0 {
		w.t.Logf("stderr: %s", &errs)
	}
	return out.String(), err
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBuildPushListRemove(t *testing.T) {
	w := newWorld(t)
	dir := folder(t)
	var built struct{ Name, Digest, Platform string }
	out := w.must("build", dir, "-t", "team/hello:1", "--entrypoint", "/run", "--env", "A=b", "--label", "x=y", "--platform", "linux/arm64", "-o", "json")
	if err := json.Unmarshal([]byte(out), &built); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if built.Name != "registry.skerry/team/hello:1" || built.Platform != "linux/arm64" {
		t.Errorf("built %+v", built)
	}
	again := w.must("build", dir, "-t", "other:1", "--entrypoint", "/run", "--env", "A=b", "--label", "x=y", "--platform", "linux/arm64")
	if !strings.Contains(again, built.Digest) {
		t.Errorf("built again: %s, want digest %s", again, built.Digest)
	}
	for range 2 { // pushing again sends nothing and is fine
		if out := w.must("push", "team/hello:1"); !strings.Contains(out, built.Digest) {
			t.Errorf("push: %s, want digest %s", out, built.Digest)
		}
	}
	if out := w.must("ls"); !strings.Contains(out, "registry.skerry/team/hello:1") || !strings.Contains(out, "registry.skerry/other:1") {
		t.Errorf("ls:\n%s", out)
	}
	for _, where := range []string{"--remote", "--remote=registry.skerry/team/hello"} {
		var list []struct{ Name, Digest, Platform string }
		if err := json.Unmarshal([]byte(w.must("ls", where, "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		want := []struct{ Name, Digest, Platform string }{{"registry.skerry/team/hello:1", built.Digest, "linux/arm64"}}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Errorf("ls %s (-want +got):\n%s", where, diff)
		}
	}
	if out := w.must("inspect", "--remote", "team/hello:1"); !strings.Contains(out, `"A=b"`) || !strings.Contains(out, built.Digest) {
		t.Errorf("inspect:\n%s", out)
	}
	w.must("rm", "--remote", "team/hello:1")
	w.must("rm", "team/hello:1", "other:1")
	if out := w.must("ls", "--remote") + w.must("ls"); strings.Contains(out, "hello") || strings.Contains(out, "other") {
		t.Errorf("after rm:\n%s", out)
	}
}

func TestPushElsewhereByAnotherName(t *testing.T) {
	reg, err := registry.New(registry.Options{Dir: t.TempDir(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	srv := httptest.NewServer(reg)
	defer srv.Close()
	w := newWorld(t)
	w.connect = func() (image.Cluster, error) { return nil, errors.New("the cluster was asked for") }
	w.must("build", folder(t), "-t", "a:1", "--cmd", "/run")
	to := strings.TrimPrefix(srv.URL, "http://") + "/x/a:2"
	w.must("push", "a:1", to)
	if out := w.must("inspect", "--remote", to); !strings.Contains(out, "/x/a:2") {
		t.Errorf("inspect: %s", out)
	}
}

func TestTarballIsReadByOthers(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "a.tar")
	w.must("build", folder(t), "-t", "a:1", "--cmd", "/run", "--tarball", file)
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("needs skopeo: apt-get install skopeo")
	}
	out, err := exec.CommandContext(t.Context(), "skopeo", "inspect", "--config", "docker-archive:"+file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "/run") {
		t.Errorf("skopeo: %v\n%s", err, out)
	}
	// And it is a source for another image.
	w.must("build", file, "-t", "b:1", "--env", "A=1")
}

// TestWhatPeopleGetWrong checks that errors say what to do.
func TestWhatPeopleGetWrong(t *testing.T) {
	w := newWorld(t)
	dir := folder(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no tag", []string{"build", dir}, `"tag" not set`},
		{"bad tag", []string{"build", dir, "-t", "Hello:1"}, "in lower case, such as hello:1"},
		{"digest as a tag", []string{"build", dir, "-t", "a@sha256:" + strings.Repeat("0", 64)}, "want NAME:TAG"},
		{"nothing to run", []string{"build", dir, "-t", "a:1"}, "give --entrypoint or --cmd"},
		{"bad label", []string{"build", dir, "-t", "a:1", "--label", "x"}, "want NAME=VALUE"},
		{"bad format", []string{"ls", "-o", "yaml"}, "neither text nor json"},
		{"push before build", []string{"push", "a:1"}, "build it first: skerry image build PATH -t a:1"},
		{"inspect before build", []string{"inspect", "a:1"}, "give --remote"},
		{"rm of nothing", []string{"rm", "a:1"}, "not in the local store"},
		{"remote that is not there", []string{"inspect", "--remote", "a:1"}, "MANIFEST_UNKNOWN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if out, err := w.run(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\n%s\nwant it to say %q", err, out, tt.want)
			}
		})
	}
	w.must("build", dir, "-t", "a:1", "--cmd", "/run")
	w.connect = func() (image.Cluster, error) { return nil, errors.New("no cluster: set KUBECONFIG") }
	if _, err := w.run("push", "a:1"); err == nil || !strings.Contains(err.Error(), "registry.skerry is the cluster's own registry: no cluster: set KUBECONFIG") {
		t.Errorf("push without a cluster: %v", err)
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	w.must("build", folder(t), "-t", "hello:1", "--cmd", "/run")
	if out := w.must("__complete", "push", ""); !strings.Contains(out, "hello:1\nregistry.skerry/hello:1\n") {
		t.Errorf("completion: %q", out)
	}
}
