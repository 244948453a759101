package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// skopeo runs Debian's skopeo against the cluster's registry. flags are those of the command.
func (s space) skopeo(args ...string) (string, error) {
	s.Helper()
	if _, err := os.Stat("/usr/bin/skopeo"); err != nil {
		s.Fatal("no skopeo: `make deps` installs it")
	}
	return shared.Run(s.Context(), "", "/usr/bin/skopeo", args...)
}

// skopeoCerts makes the folder in which skopeo looks for a registry's certificate authority.
func (s space) skopeoCerts(r *registry) string {
	s.Helper()
	dir := s.TempDir()
	data, err := os.ReadFile(r.caFile)
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), data, 0o600); err != nil {
		s.Fatal(err)
	}
	return dir
}

func (s space) registry() *registry {
	s.Helper()
	r, err := newRegistry(shared, s.TempDir())
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func (s space) crane(r *registry, args ...string) string {
	s.Helper()
	out, err := r.crane(s.Context(), args...)
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestCrane: what our own command line pushed is what crane sees, copies, saves and deletes.
func TestCrane(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	r := s.registry()
	image := r.host + "/testimage"
	digest := s.crane(r, "digest", image+":1")
	s.crane(r, "validate", "--remote", image+":1")
	s.wants(s.crane(r, "ls", image), "1\n", "2")
	s.wants(s.crane(r, "config", image+":2"), "VERSION=2")
	tarball, copied := filepath.Join(t.TempDir(), "image.tar"), r.host+"/by-crane/deep/copy"
	s.crane(r, "pull", "--format=tarball", image+":1", tarball)
	s.crane(r, "copy", image+":1", copied+":a")
	s.crane(r, "tag", copied+":a", "b")
	for _, tag := range []string{":a", ":b", "@" + digest} {
		if got := s.crane(r, "digest", copied+tag); got != digest {
			t.Errorf("%s is %s, want %s", tag, got, digest)
		}
	}
	s.wants(s.crane(r, "catalog", r.host), "testimage", "by-crane/deep/copy")
	s.crane(r, "delete", copied+"@"+digest)
	if out, err := r.crane(t.Context(), "digest", copied+":a"); err == nil {
		t.Errorf("deleted, but is %s", out)
	}
	if got := s.crane(r, "digest", image+":1"); got != digest {
		t.Errorf("deleting the copy changed the original: %s", got)
	}
}

// TestSkopeo: an image that skopeo pushed has the digest it had before, and a node runs it.
func TestSkopeo(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	r := s.registry()
	certs, creds := s.skopeoCerts(r), "admin:"+r.token
	must := func(args ...string) string {
		t.Helper()
		out, err := s.skopeo(args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	layout := "oci:" + filepath.Join(t.TempDir(), "layout") + ":1"
	must("copy", "--src-cert-dir", certs, "--src-creds", creds, "docker://"+r.host+"/testimage:1", layout)
	target := "docker://" + r.host + "/by-skopeo:1"
	must("copy", "--dest-cert-dir", certs, "--dest-creds", creds, layout, target)
	if a, b := s.crane(r, "digest", r.host+"/testimage:1"), must("inspect", "--cert-dir", certs, "--creds", creds, "--format", "{{.Digest}}", target); a != b {
		t.Errorf("skopeo's digest is %s, the original's %s", b, a)
	}
	s.wants(must("list-tags", "--cert-dir", certs, "--creds", creds, "docker://"+r.host+"/by-skopeo"), `"1"`)

	s.apply(strings.ReplaceAll(podManifest("p", "", "args: [serve]"), "IMAGE", "registry.skerry/by-skopeo:1"))
	if got := s.ask(s.ready("p"), "/"); got != "p" {
		t.Errorf("the pod says %q", got)
	}
	must("delete", "--cert-dir", certs, "--creds", creds, target)
	if out, err := s.skopeo("inspect", "--cert-dir", certs, "--creds", creds, target); err == nil {
		t.Errorf("deleted, but there:\n%s", out)
	}
	s.ready("p") // what runs does not need its image's tag

	if _, err := s.skopeo("inspect", "--cert-dir", certs, "--creds", "admin:guess", "docker://"+r.host+"/testimage:1"); err == nil {
		t.Error("a wrong password was let in")
	} else {
		s.wants(err.Error(), "nauthorized")
	}
	if _, err := s.skopeo("copy", "--dest-cert-dir", certs, "--dest-no-creds", layout, "docker://"+r.host+"/anonymous:1"); err == nil {
		t.Error("pushed without a password")
	}
}

// TestSkerryImage: the command line lists and removes images of the cluster's registry.
func TestSkerryImage(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	r := s.registry()
	s.crane(r, "copy", r.host+"/testimage:1", r.host+"/ours:1")
	run := func(args ...string) string {
		t.Helper()
		out, err := shared.Skerry(t.Context(), append([]string{"image"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	s.wants(run("ls", "--remote"), "ours", "testimage")
	run("rm", "--remote", "ours:1")
	s.wants(run("ls", "--remote"), "!ours:1", "testimage")
	if out, err := shared.Skerry(t.Context(), "image", "push", "nope:1", "--store", t.TempDir()); err == nil {
		t.Errorf("pushed an image that is not there:\n%s", out)
	} else {
		s.wants(err.Error(), "nope:1")
	}
}
