// Package images builds the images that the conformance specs run, from the sources in the Kubernetes module and from
// Debian's packages, and sends them to the cluster's own registry: nothing is pulled from a public one.
//
// Where upstream builds on Alpine and a program of it, the image here has busybox and Debian's program of the same name.
// Images that no spec needs which is meant to pass are not built. Building and sending is done by `skerry image`, as a
// user would.
package images

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"skerry.dev/skerry/api"
)

// Builder makes images in a cache folder.
type Builder struct {
	Cache  string // keeps what is downloaded and built
	Bin    string // folder of what the Makefile builds from the module: agnhost, nnp
	Source string // root of the Kubernetes module
	Skerry string // path of our command line
}

// image is one of upstream's, under its name and version there.
type image struct {
	name  string
	flags []string // of skerry image build
	fill  func(ctx context.Context, b *base) error
}

const e2e = "e2e-test-images/"

// list follows test/utils/image/manifest.go of the Kubernetes module.
var list = []image{
	{e2e + "agnhost:2.66.1", []string{"--entrypoint=/agnhost", "--cmd=pause"}, agnhost},
	{e2e + "agnhost:2.55", []string{"--entrypoint=/agnhost", "--cmd=pause"}, agnhost},
	{e2e + "nonroot:1.5", []string{"--entrypoint=/agnhost", "--cmd=pause", "--user=1234"}, agnhost},
	{e2e + "kitten:1.8", []string{"--entrypoint=/agnhost", "--cmd=test-webserver"}, animal("kitten")},
	{e2e + "nautilus:1.8", []string{"--entrypoint=/agnhost", "--cmd=test-webserver"}, animal("nautilus")},
	{e2e + "busybox:1.37.0-2", []string{"--cmd=sh"}, busybox},
	{e2e + "nonewprivs:1.4", []string{"--cmd=nnp"}, nonewprivs},
	{e2e + "ipc-utils:1.4", []string{"--cmd=sh"}, ipcUtils},
	{e2e + "glibc-dns-testing:2.1.1", []string{"--cmd=bash"}, dnsTesting},
	{e2e + "nginx:1.27.0-2", nginxFlags, nginx},
	{e2e + "nginx:1.28.0-2", nginxFlags, nginx},
	{"pause:3.10.2", []string{"--entrypoint=/pause", "--user=65535:65535"}, pause},
}

var nginxFlags = []string{"--expose=80", "--entrypoint=nginx", "--cmd=-g", "--cmd=daemon off;"}

// RepoList is what the suite reads as KUBE_TEST_REPO_LIST: where its images are. Upstream has registries that must not
// answer; so do we.
func RepoList() string {
	return strings.NewReplacer("HOST", api.RegistryHost).Replace(`promoterE2eRegistry: HOST/e2e-test-images
buildImageRegistry: HOST/build-image
invalidRegistry: invalid.HOST/invalid
gcEtcdRegistry: HOST
gcRegistry: HOST
sigStorageRegistry: HOST/sig-storage
privateRegistry: private.HOST/k8s-authenticated-test
dockerLibraryRegistry: HOST/library
cloudProviderGcpRegistry: HOST/cloud-provider-gcp
`)
}

// base is what images are filled from.
type base struct {
	*Builder
	debian string
	tree
}

// Push builds all images and sends them to the cluster of a kubeconfig. Those that the registry has are not sent again.
func (b *Builder) Push(ctx context.Context, kubeconfig string) error {
	root, err := debian(ctx, b.Cache)
	if err != nil {
		return fmt.Errorf("fetch Debian's packages: %w", err)
	}
	for _, i := range list {
		if err := b.push(ctx, root, i, kubeconfig); err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
	}
	return nil
}

func (b *Builder) push(ctx context.Context, root string, i image, kubeconfig string) error {
	w := &base{Builder: b, debian: root, tree: tree{}}
	if err := i.fill(ctx, w); err != nil {
		return err
	}
	archive, err := os.CreateTemp(b.Cache, "image-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	if err := archive.Close(); err != nil {
		return err
	}
	if err := w.write(archive.Name()); err != nil {
		return err
	}
	store := "--store=" + filepath.Join(b.Cache, "store")
	args := append([]string{"image", "build", archive.Name(), "--tag", i.name, store}, i.flags...)
	if err := run(ctx, b.Skerry, args...); err != nil {
		return err
	}
	return run(ctx, "env", "KUBECONFIG="+kubeconfig, b.Skerry, "image", "push", i.name, store)
}

// busybox makes what an Alpine user finds: a shell, its commands, and a few accounts.
func busybox(ctx context.Context, b *base) error {
	program := filepath.Join(b.debian, "bin/busybox")
	applets, err := output(ctx, program, "--list-full")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(applets) {
		b.symlink(name, "/bin/busybox")
		b.symlink(path.Join("bin", path.Base(name)), "/bin/busybox") // where upstream's image has all of them
	}
	b.program("bin/busybox", program)
	b.symlink("bin/sh", "/bin/busybox")
	// The sh on the search path is bash: older busyboxes drop variables whose names a shell cannot use, and specs look for
	// those in the output of "sh -c env".
	if err := b.takeAll("bin/bash"); err != nil {
		return err
	}
	b.symlink("usr/local/bin/sh", "/bin/bash")
	b.dir(0o755, "dev", "proc", "sys", "home", "root", "run", "var/log")
	b.dir(0o777|fs.ModeSticky, "tmp", "var/tmp")
	b.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	b.text("etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65533:\nnobody:x:65534:\n")
	b.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	return nil
}

// takeAll takes programs of Debian, and what the C library loads when it looks names up.
func (b *base) takeAll(names ...string) error {
	for _, library := range []string{"libnss_files.so.2", "libnss_dns.so.2"} {
		found, err := find(b.debian, library)
		if err != nil {
			return err
		}
		names = append(names, found)
	}
	for _, name := range names {
		delete(b.tree, name) // busybox's own
		if err := b.take(b.debian, name); err != nil {
			return err
		}
	}
	return nil
}

func agnhost(ctx context.Context, b *base) error {
	if err := busybox(ctx, b); err != nil {
		return err
	}
	if err := b.takeAll("bin/nc.openbsd", "bin/ss", "usr/bin/curl", "usr/bin/dig", "usr/bin/getent", "usr/bin/ipcs", "usr/bin/socat"); err != nil {
		return err
	}
	b.symlink("bin/sh", "/bin/bash") // busybox's runs its own applets whatever the search path says: not this nc
	b.symlink("bin/nc", "nc.openbsd")
	b.symlink("usr/bin/nc", "/bin/nc.openbsd")
	b.program("agnhost", filepath.Join(b.Bin, "agnhost"))
	b.symlink("agnhost-2", "agnhost")
	b.dir(0o755, "uploads")
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		b.tree[name] = entry{mode: 0o644, source: filepath.Join(b.Source, "test/images/agnhost/porter", name)}
	}
	// What specs of supplemental groups expect in the image.
	b.append("etc/passwd", "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n")
	b.append("etc/group", "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n")
	return nil
}

func (b *base) append(name, line string) {
	e := b.tree[name]
	e.content = append(e.content, line...)
	b.tree[name] = e
}

// animal is what the rolling updates of a bygone demo show.
func animal(name string) func(context.Context, *base) error {
	return func(ctx context.Context, b *base) error {
		if err := agnhost(ctx, b); err != nil {
			return err
		}
		return b.folder("", filepath.Join(b.Source, "test/images", name, "html"))
	}
}

func nonewprivs(ctx context.Context, b *base) error {
	if err := busybox(ctx, b); err != nil {
		return err
	}
	b.tree["usr/local/bin/nnp"] = entry{mode: 0o755 | fs.ModeSetuid, source: filepath.Join(b.Bin, "nnp")}
	return nil
}

func ipcUtils(ctx context.Context, b *base) error {
	if err := busybox(ctx, b); err != nil {
		return err
	}
	return b.takeAll("usr/bin/ipcs", "usr/bin/ipcmk", "usr/bin/ipcrm")
}

func dnsTesting(ctx context.Context, b *base) error {
	if err := busybox(ctx, b); err != nil {
		return err
	}
	return b.takeAll("usr/bin/dig", "usr/bin/getent")
}

// nginxConfig serves the folder that upstream's image serves, and logs to the container's output.
const nginxConfig = `user nobody nogroup;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr;
events { worker_connections 256; }
http {
  include mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  server {
    listen 80;
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`

func nginx(ctx context.Context, b *base) error {
	if err := busybox(ctx, b); err != nil {
		return err
	}
	if err := b.takeAll("usr/sbin/nginx"); err != nil {
		return err
	}
	b.tree["etc/nginx/mime.types"] = entry{mode: 0o644, source: filepath.Join(b.debian, "etc/nginx/mime.types")}
	b.text("etc/nginx/nginx.conf", nginxConfig)
	b.dir(0o777, "var/lib/nginx", "var/log/nginx")
	return b.folder("usr/share/nginx/html", filepath.Join(b.debian, "usr/share/nginx/html"))
}

// pause compiles the program in C that upstream's image has.
func pause(ctx context.Context, b *base) error {
	program := filepath.Join(b.Cache, "pause")
	source := filepath.Join(b.Source, "build/pause/linux/pause.c")
	if err := run(ctx, "gcc", "-Os", "-Wall", "-static", "-DVERSION=v3.10.2", "-o", program, source); err != nil {
		return err
	}
	b.program("pause", program)
	return nil
}
