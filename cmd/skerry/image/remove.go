package image

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"
)

func newTag(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "tag NAME[:TAG] NEWNAME[:TAG]",
		Short:             "Give an image in the local store another name",
		Example:           "  skerry image tag hello:1 registry.example/team/hello:1",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: o.completeLocal,
		RunE: func(_ *cobra.Command, args []string) error {
			from, err := o.parse(args[0])
			if err != nil {
				return err
			}
			to, err := o.parse(args[1])
			if err != nil {
				return err
			}
			store, err := o.store()
			if err != nil {
				return err
			}
			return store.Tag(from.Name(), to.Name())
		},
	}
}

func newRemove(o *options) *cobra.Command {
	var fromRemote bool
	cmd := &cobra.Command{
		Use:   "rm NAME[:TAG]...",
		Short: "Remove images from the local store or from a registry",
		Long: `Remove names from the local store, and the content that no other name needs; with --remote, from their registry.
In a registry, a tag loses its name only; a digest (NAME@sha256:...) loses all its tags too. Nodes that run it keep it.`,
		Example:           "  skerry image rm hello:1\n  skerry image rm --remote hello:1",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: o.completeLocal,
	}
	cmd.Flags().BoolVar(&fromRemote, "remote", false, "remove from the registry, not from the local store")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			ref, err := o.parse(arg)
			if err != nil {
				return err
			}
			if fromRemote {
				err = o.removeRemote(cmd, ref)
			} else {
				err = o.removeLocal(ref)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", ref.Name())
		}
		return nil
	}
	return cmd
}

func (o *options) removeLocal(ref name.Reference) error {
	store, err := o.store()
	if err != nil {
		return err
	}
	return store.Remove(ref.Name())
}

func (o *options) removeRemote(cmd *cobra.Command, ref name.Reference) error {
	e, err := o.endpointOf(ref.Context())
	if err != nil {
		return err
	}
	if err := remote.Delete(ref, e.remote(cmd.Context())...); err != nil {
		return fmt.Errorf("remove %s: %w", ref, e.explain(err))
	}
	return nil
}

func newPrune(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Remove content of the local store that no image needs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := o.store()
			if err != nil {
				return err
			}
			n, err := store.Collect()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", bytesText(n))
			return err
		},
	}
}
