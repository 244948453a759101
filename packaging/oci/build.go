package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BuildOptions say what goes into an image. Zero values mean: nothing of that kind, or what Base has.
type BuildOptions struct {
	// Path is a folder (its content becomes the root), a tarball (a root file system, or an image saved by docker save
	// or as an OCI archive; gzip or zstd or neither) or a static Linux binary (it becomes /<name>, and the entrypoint).
	Path string
	// Base is what Path is put on top of. Nil means nothing, or the image that Path itself is.
	Base v1.Image

	Entrypoint   []string
	Cmd          []string
	Env          []string // NAME=VALUE; a name that the base has is replaced
	User         string
	Workdir      string
	Labels       map[string]string
	ExposedPorts []string // 8080 or 53/udp
	// Platform is linux/arm64 and the like. Empty means what the binary or the entrypoint is made for, then the base's,
	// then this machine's.
	Platform string
	// Epoch is the time of everything in the image. The zero time means the Unix epoch.
	Epoch time.Time
	// Scratch is where the layer is put together; it needs room for the compressed content. Empty means the system's
	// temporary folder.
	Scratch string
}

// Built is an image that was just made. Its content lies in temporary files until Close.
type Built struct {
	v1.Image
	// Ignored are names of the source that no image holds, such as sockets and devices.
	Ignored []string

	layer  *fileLayer // nil when the source is an image itself
	source *source
}

// Close removes the temporary files. The image cannot be read afterwards.
func (b *Built) Close() error {
	b.source.close()
	if b.layer == nil {
		return nil
	}
	return ignoreMissing(os.Remove(b.layer.path))
}

// Build makes an image. The digest depends on the content, names, execute bits and links of the source and on the
// options, and on nothing else: not on the machine, its user, umask, time zone or the order of its folders. Owners and
// modes are kept from tarballs only; from folders everything belongs to root, with modes 755 and 644.
func Build(ctx context.Context, o BuildOptions) (*Built, error) {
	if err := checkOptions(&o); err != nil {
		return nil, fmt.Errorf("build image from %s: %w", o.Path, err)
	}
	b, err := build(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("build image from %s: %w", o.Path, err)
	}
	return b, nil
}

func build(ctx context.Context, o BuildOptions) (*Built, error) {
	src, err := openSource(ctx, o)
	if err != nil {
		return nil, err
	}
	b := &Built{Ignored: src.ignored, source: src}
	if src.image == nil {
		b.layer, err = writeLayer(ctx, src, o)
	}
	if err == nil {
		b.Image, err = assemble(b.layer, src, o)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func checkOptions(o *BuildOptions) error {
	var errs []error
	for _, e := range o.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			errs = append(errs, fmt.Errorf("environment %q: want NAME=VALUE", e))
		}
	}
	for i, p := range o.ExposedPorts {
		port, err := parsePort(p)
		errs = append(errs, err)
		o.ExposedPorts[i] = port
	}
	if o.Workdir != "" && !path.IsAbs(o.Workdir) {
		errs = append(errs, fmt.Errorf("working folder %q: want an absolute path", o.Workdir))
	}
	if o.Epoch.IsZero() {
		o.Epoch = time.Unix(0, 0)
	}
	o.Epoch = o.Epoch.UTC().Truncate(time.Second)
	return errors.Join(errs...)
}

func parsePort(s string) (string, error) {
	number, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	var n uint16
	if _, err := fmt.Sscanf(number, "%d", &n); err != nil || n == 0 || fmt.Sprint(n) != number || protocol != "tcp" && protocol != "udp" {
		return s, fmt.Errorf("port %q: want 1 to 65535, with /tcp or /udp", s)
	}
	return number + "/" + protocol, nil
}

// assemble puts base, layer and configuration together. Without a layer the source is an image itself.
func assemble(layer *fileLayer, src *source, o BuildOptions) (v1.Image, error) {
	if layer == nil && !changes(o) {
		return src.image, nil
	}
	base, err := addLayer(layer, src, o)
	if err != nil {
		return nil, err
	}
	file, err := base.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	platform, err := choosePlatform(*file, src, o)
	if err != nil {
		return nil, err
	}
	file.OS, file.Architecture, file.Variant = platform.OS, platform.Architecture, platform.Variant
	file.Created = v1.Time{Time: o.Epoch}
	configure(&file.Config, src, o)
	if len(file.Config.Entrypoint)+len(file.Config.Cmd) == 0 {
		return nil, errors.New("nothing says what to run: give --entrypoint or --cmd")
	}
	return mutate.ConfigFile(base, file)
}

func addLayer(layer *fileLayer, src *source, o BuildOptions) (v1.Image, error) {
	if layer == nil {
		return src.image, nil
	}
	base := o.Base
	if base == nil {
		base = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	media, err := base.MediaType()
	if err != nil {
		return nil, err
	}
	if media == types.DockerManifestSchema2 { // the two families are not mixed in one manifest
		layer.media = types.DockerLayer
	}
	history := v1.History{Created: v1.Time{Time: o.Epoch}, CreatedBy: "skerry image build"}
	return mutate.Append(base, mutate.Addendum{Layer: layer, History: history})
}

// changes says whether the options change the configuration of an image that is otherwise taken as it is.
func changes(o BuildOptions) bool {
	return len(o.Entrypoint)+len(o.Cmd)+len(o.Env)+len(o.Labels)+len(o.ExposedPorts) > 0 ||
		o.User != "" || o.Workdir != "" || o.Platform != ""
}

// configure lays the options over what the base says.
func configure(c *v1.Config, src *source, o BuildOptions) {
	entrypoint := o.Entrypoint
	if len(entrypoint) == 0 && src.binary != "" {
		entrypoint = []string{src.binary}
	}
	if len(entrypoint) > 0 {
		c.Entrypoint, c.Cmd = entrypoint, nil // the base's arguments were meant for its own entrypoint
	}
	if len(o.Cmd) > 0 {
		c.Cmd = o.Cmd
	}
	for _, e := range o.Env {
		name, _, _ := strings.Cut(e, "=")
		c.Env = slices.DeleteFunc(c.Env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		c.Env = append(c.Env, e)
	}
	if o.User != "" {
		c.User = o.User
	}
	if o.Workdir != "" {
		c.WorkingDir = o.Workdir
	}
	for k, v := range o.Labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[k] = v
	}
	for _, p := range o.ExposedPorts {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[p] = struct{}{}
	}
}
