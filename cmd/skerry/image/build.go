package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"

	"skerry.dev/skerry/packaging/oci"
)

// buildFlags are the flags of `skerry image build`.
type buildFlags struct {
	tag, base, tarFile, output string
	labels                     []string
	build                      oci.BuildOptions
}

// builtImage is what build prints.
type builtImage struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Platform  string `json:"platform"`
	SizeBytes int64  `json:"sizeBytes"` // compressed
	File      string `json:"file,omitempty"`
}

func newBuild(o *options) *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use:   "build PATH -t NAME:TAG",
		Short: "Build an image from a folder, a tarball or a static binary",
		Long: `Build an image and keep it in the local store.

PATH is a folder (its content becomes the root file system), a tarball (a root file system; or an image saved by docker
save or as an OCI archive; plain, gzip or zstd) or a static Linux binary (it becomes /NAME and the entrypoint).

The digest depends on the content and the flags only: building the same again, on any machine, gives the same image.
Times are those of SOURCE_DATE_EPOCH, or 1970. From folders, everything belongs to root, and only the execute bit counts.`,
		Example: `  CGO_ENABLED=0 go build -o hello ./configs/demo/hello && skerry image build hello -t hello:1
  skerry image build ./rootfs -t app:2 --entrypoint /bin/app --cmd --port=80 --env LOG=debug --user 1000
  skerry image build ./site -t site:1 --base docker.io/library/nginx:alpine --platform linux/arm64
  skerry image build rootfs.tar.gz -t sensor:1 --entrypoint /sensor --tarball sensor.tar`,
		Args: cobra.ExactArgs(1),
	}
	f.add(cmd)
	check := addOutput(cmd, &f.output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return err
		}
		f.build.Path = args[0]
		return runBuild(cmd, o, f)
	}
	return cmd
}

func (f *buildFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.tag, "tag", "t", "", "`NAME:TAG` of the image (required)")
	flags.StringArrayVar(&f.build.Entrypoint, "entrypoint", nil, "program to run; repeat for its fixed `arguments`")
	flags.StringArrayVar(&f.build.Cmd, "cmd", nil, "default `argument`, which pods may replace; repeat for more")
	flags.StringArrayVarP(&f.build.Env, "env", "e", nil, "environment, `NAME=VALUE`; repeat for more")
	flags.StringVarP(&f.build.User, "user", "u", "", "`user` to run as: name or number, with :group if wanted")
	flags.StringVarP(&f.build.Workdir, "workdir", "w", "", "`folder` to start in")
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "label, `NAME=VALUE`; repeat for more")
	flags.StringArrayVar(&f.build.ExposedPorts, "expose", nil, "`port` that the image listens on, such as 8080 or 53/udp; repeat for more")
	flags.StringVar(&f.build.Platform, "platform", "", "`platform`, such as linux/arm64; default is the binary's, the base's or this machine's")
	flags.StringVar(&f.base, "base", "", "`image` to put PATH on top of, from the local store or a registry")
	flags.StringVar(&f.tarFile, "tarball", "", "also write the image to a `file` that docker load and podman load read")
	if err := cmd.MarkFlagRequired("tag"); err != nil {
		panic(err) // the flag was added above
	}
}

func runBuild(cmd *cobra.Command, o *options, f *buildFlags) error {
	ref, err := o.parse(f.tag)
	if err != nil {
		return err
	}
	tag, ok := ref.(name.Tag)
	if !ok {
		return fmt.Errorf("--tag %s: want NAME:TAG, not a digest", f.tag)
	}
	if err := f.complete(cmd, o); err != nil {
		return err
	}
	store, err := o.store()
	if err != nil {
		return err
	}
	b, err := oci.Build(cmd.Context(), f.build)
	if err != nil {
		return err
	}
	return errors.Join(keep(cmd, store, tag, b, f), b.Close())
}

// complete works out what the flags only name.
func (f *buildFlags) complete(cmd *cobra.Command, o *options) (err error) {
	f.build.Labels = map[string]string{}
	for _, l := range f.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return fmt.Errorf("--label %q: want NAME=VALUE", l)
		}
		f.build.Labels[k] = v
	}
	if f.build.Epoch, err = sourceDateEpoch(); err != nil {
		return err
	}
	if f.base != "" {
		f.build.Base, err = f.openBase(cmd, o)
	}
	return err
}

// sourceDateEpoch follows reproducible-builds.org.
func sourceDateEpoch() (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", s)
	}
	return time.Unix(n, 0), nil
}

// openBase looks in the local store first, then in the registry.
func (f *buildFlags) openBase(cmd *cobra.Command, o *options) (v1.Image, error) {
	ref, err := o.parse(f.base)
	if err != nil {
		return nil, err
	}
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	img, err := store.Image(ref.Name())
	if err == nil || !errors.Is(err, oci.ErrNoImage) {
		return img, err
	}
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if f.build.Platform != "" {
		p, err := v1.ParsePlatform(f.build.Platform)
		if err != nil {
			return nil, fmt.Errorf("--platform %s: %w", f.build.Platform, err)
		}
		platform = *p
	}
	return o.pull(cmd.Context(), ref, &platform)
}

// keep stores the image, and writes and prints what was asked for.
func keep(cmd *cobra.Command, store *oci.Store, tag name.Tag, b *oci.Built, f *buildFlags) error {
	for _, name := range b.Ignored {
		fmt.Fprintf(cmd.ErrOrStderr(), "left out %s: images hold no sockets and devices\n", name)
	}
	digest, err := store.Add(tag.Name(), b)
	if err != nil {
		return err
	}
	out := builtImage{Name: tag.Name(), Digest: digest.String()}
	list, err := store.List()
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Name == out.Name {
			out.Platform, out.SizeBytes = i.Platform, i.SizeBytes
		}
	}
	if f.tarFile != "" {
		if err := saveTarball(f.tarFile, tag, b); err != nil {
			return err
		}
		out.File = f.tarFile
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), out)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s  %s  %s\n", out.Name, out.Digest, out.Platform, bytesText(out.SizeBytes))
	return err
}

// saveTarball writes beside the file and renames, so that a full disk leaves no half archive.
func saveTarball(file string, tag name.Tag, img v1.Image) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".skerry-image-")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	err = tarball.Write(tag, img, f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", file, err), os.RemoveAll(f.Name()))
	}
	return nil
}
