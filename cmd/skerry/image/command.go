// Package image holds `skerry image`: building images, keeping them, and sending them to registries.
//
// What the commands do is in package oci; here are flags, names, progress and words. The cluster's own registry is
// reached through its API server, as the caller connects.
package image

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/packaging/oci"
)

// options are shared by all commands.
type options struct {
	storeDir  string
	plainHTTP bool
	connect   Connect
}

// NewCommand returns `skerry image`. connect is called only when the cluster's own registry is meant.
func NewCommand(connect Connect) *cobra.Command {
	o := &options{connect: connect}
	cmd := &cobra.Command{
		Use:     "image",
		Aliases: []string{"images"},
		Short:   "Build images and send them to a registry",
		Long: `Build container images from a folder, a tarball or a static binary, keep them in a local store, and send them to a
registry: the cluster's own, which is called ` + api.RegistryHost + ` and is reached through the API server of the current
kubeconfig context, or any other.

A name without a registry means the cluster's own: hello:1 is short for ` + api.RegistryHost + `/hello:1, which is also what
manifests say. The local store is an OCI layout, which other tools can read.`,
		Example: `  CGO_ENABLED=0 go build -o hello ./configs/demo/hello
  skerry image build hello -t hello:1
  skerry image push hello:1
  kubectl create deployment hello --image ` + api.RegistryHost + `/hello:1`,
	}
	cmd.PersistentFlags().StringVar(&o.storeDir, "store", "", "`folder` of the local store; default is $XDG_DATA_HOME/skerry/images, ~/.local/share/skerry/images")
	cmd.PersistentFlags().BoolVar(&o.plainHTTP, "plain-http", false, "speak http, not https, to registries other than the cluster's")
	cmd.AddCommand(
		newBuild(o), newPush(o), newList(o), newInspect(o), newTag(o), newRemove(o), newPrune(o),
	)
	return cmd
}

// store opens the local store.
func (o *options) store() (*oci.Store, error) {
	dir := o.storeDir
	if dir == "" {
		data := os.Getenv("XDG_DATA_HOME")
		if data == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("find the local image store (or give --store): %w", err)
			}
			data = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(data, "skerry", "images")
	}
	return oci.OpenStore(dir)
}

// parse reads a name as users write it. Without a registry it means the cluster's own, without a tag latest.
func (o *options) parse(s string) (name.Reference, error) {
	opts := []name.Option{name.WeakValidation, name.WithDefaultRegistry(api.RegistryHost)}
	if o.plainHTTP {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(s, opts...)
	if err != nil {
		return nil, fmt.Errorf("image name %q: want [REGISTRY/]NAME[:TAG] in lower case, such as hello:1: %w", s, err)
	}
	return ref, nil
}

// completeLocal completes the names of the local store, short ones too.
func (o *options) completeLocal(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := o.store()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := s.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, i := range list {
		out = append(out, short(i.Name), i.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// addOutput adds -o. check must run before the command does its work.
func addOutput(cmd *cobra.Command, output *string) (check func() error) {
	cmd.Flags().StringVarP(output, "output", "o", "text", "`format`: text or json")
	formats := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("output", formats); err != nil {
		panic(err) // the flag was added above
	}
	return func() error {
		if *output != "text" && *output != "json" {
			return fmt.Errorf("--output %q is neither text nor json", *output)
		}
		return nil
	}
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func table(out io.Writer, header string, rows [][]any) error {
	w := tabwriter.NewWriter(out, 0, 4, 3, ' ', 0)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// bytesText is a size for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
