package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/packaging/oci"
)

// listed is one image as ls prints it.
type listed struct {
	Name      string     `json:"name"`
	Digest    string     `json:"digest"`
	Platform  string     `json:"platform,omitempty"`
	SizeBytes int64      `json:"sizeBytes,omitempty"` // compressed
	Created   *time.Time `json:"created,omitempty"`
}

func newList(o *options) *cobra.Command {
	var output, remoteName string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List images in the local store or in a registry",
		Example: `  skerry image ls
  skerry image ls --remote                                 # the cluster's registry
  skerry image ls --remote=registry.example                # all of another registry
  skerry image ls --remote=registry.example/team/hello     # one repository of it`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&remoteName, "remote", "", "list a `REGISTRY[/REPOSITORY]`; without a value the cluster's own")
	cmd.Flags().Lookup("remote").NoOptDefVal = api.RegistryHost
	check := addOutput(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		list, err := o.list(cmd.Context(), remoteName)
		if err != nil {
			return err
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), list)
		}
		rows := make([][]any, 0, len(list))
		for _, i := range list {
			rows = append(rows, []any{i.Name, shortDigest(i.Digest), i.Platform, bytesText(i.SizeBytes)})
		}
		return table(cmd.OutOrStdout(), "NAME\tDIGEST\tPLATFORM\tSIZE", rows)
	}
	return cmd
}

func shortDigest(d string) string { return d[:min(len(d), len("sha256:")+12)] }

func (o *options) list(ctx context.Context, remoteName string) ([]listed, error) {
	if remoteName != "" {
		return o.listRemote(ctx, remoteName)
	}
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	out := make([]listed, 0, len(list))
	for _, i := range list {
		l := listed{Name: i.Name, Digest: i.Digest, Platform: i.Platform, SizeBytes: i.SizeBytes}
		if !i.Created.IsZero() {
			l.Created = &i.Created
		}
		out = append(out, l)
	}
	return out, nil
}

// listRemote lists a repository, or all of a registry.
func (o *options) listRemote(ctx context.Context, where string) ([]listed, error) {
	host, repository, _ := strings.Cut(where, "/")
	registry, err := name.NewRegistry(host, o.nameOptions()...)
	if err != nil {
		return nil, fmt.Errorf("--remote %s: want REGISTRY or REGISTRY/REPOSITORY: %w", where, err)
	}
	e, err := o.endpointOf(registry.Repo(repository))
	if err != nil {
		return nil, err
	}
	repositories := []string{repository}
	if repository == "" {
		if repositories, err = remote.Catalog(ctx, registry, e.remote(ctx)...); err != nil {
			return nil, fmt.Errorf("list %s: %w", host, e.explain(err))
		}
	}
	out := []listed{}
	for _, r := range repositories {
		tags, err := remote.List(registry.Repo(r), e.remote(ctx)...)
		if err != nil {
			return nil, fmt.Errorf("list %s/%s: %w", host, r, e.explain(err))
		}
		for _, t := range tags {
			l, err := describeRemote(registry.Repo(r).Tag(t), e.remote(ctx))
			if err != nil {
				return nil, fmt.Errorf("read %s/%s:%s: %w", host, r, t, e.explain(err))
			}
			out = append(out, l)
		}
	}
	return out, nil
}

func (o *options) nameOptions() []name.Option {
	if o.plainHTTP {
		return []name.Option{name.Insecure}
	}
	return nil
}

// describeRemote reads manifest and configuration; an index is listed with its platforms.
func describeRemote(tag name.Tag, opts []remote.Option) (listed, error) {
	d, err := remote.Get(tag, opts...)
	if err != nil {
		return listed{}, err
	}
	l := listed{Name: tag.Name(), Digest: d.Digest.String()}
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		if err != nil {
			return l, err
		}
		m, err := index.IndexManifest()
		if err != nil {
			return l, err
		}
		for _, child := range m.Manifests {
			if child.Platform != nil {
				l.Platform = strings.TrimPrefix(l.Platform+","+child.Platform.String(), ",")
			}
		}
		return l, nil
	}
	img, err := d.Image()
	if err != nil {
		return l, err
	}
	return l, fill(&l, img)
}

func fill(l *listed, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	l.SizeBytes = m.Config.Size
	for _, layer := range m.Layers {
		l.SizeBytes += layer.Size
	}
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	l.Platform = v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}.String()
	l.Created = &c.Created.Time
	return nil
}

// inspected is what inspect prints.
type inspected struct {
	Name     string         `json:"name"`
	Digest   string         `json:"digest"`
	Manifest *v1.Manifest   `json:"manifest"`
	Config   *v1.ConfigFile `json:"config"`
}

func newInspect(o *options) *cobra.Command {
	var fromRemote bool
	cmd := &cobra.Command{
		Use:               "inspect NAME[:TAG]",
		Short:             "Print an image's manifest and configuration as JSON",
		Example:           "  skerry image inspect hello:1\n  skerry image inspect --remote docker.io/library/alpine",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeLocal,
	}
	cmd.Flags().BoolVar(&fromRemote, "remote", false, "look in the registry, not in the local store")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := o.parse(args[0])
		if err != nil {
			return err
		}
		img, err := o.open(cmd.Context(), ref, fromRemote)
		if err != nil {
			return err
		}
		out := inspected{Name: ref.Name()}
		var errs [3]error
		var digest v1.Hash
		digest, errs[0] = img.Digest()
		out.Manifest, errs[1] = img.Manifest()
		out.Config, errs[2] = img.ConfigFile()
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("read %s: %w", ref, err)
		}
		out.Digest = digest.String()
		return printJSON(cmd.OutOrStdout(), out)
	}
	return cmd
}

func (o *options) open(ctx context.Context, ref name.Reference, fromRemote bool) (v1.Image, error) {
	if fromRemote {
		return o.pull(ctx, ref, nil)
	}
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	img, err := store.Image(ref.Name())
	if errors.Is(err, oci.ErrNoImage) {
		return nil, fmt.Errorf("%w; give --remote to look in the registry", err)
	}
	return img, err
}
