package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// parse reads a reference as a user writes it: docker.io and the tag latest are left out.
func parse(ref string, opts ...name.Option) (name.Reference, error) {
	if strings.Contains(ref, "@") {
		// name:tag@digest is allowed; the digest decides.
		before, digest, _ := strings.Cut(ref, "@")
		if at := strings.LastIndex(before, ":"); at > strings.LastIndex(before, "/") {
			ref = before[:at] + "@" + digest
		}
	}
	r, err := name.ParseReference(ref, append(opts, name.WeakValidation)...)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidName, ref, err)
	}
	return r, nil
}

// reference parses ref for this store's registries.
func (s *Store) reference(ref string) (name.Reference, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.opts.PlainHTTP, r.Context().RegistryStr()) {
		return parse(ref, name.Insecure)
	}
	return r, nil
}

// choose picks the manifest for the platform out of an index.
func choose(index *v1.IndexManifest, want v1.Platform) (v1.Descriptor, error) {
	var offered []string
	best, bestScore := v1.Descriptor{}, 0
	for _, d := range index.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || !d.MediaType.IsImage() {
			continue // attestations and other things that are not run
		}
		offered = append(offered, d.Platform.String())
		if score := fits(*d.Platform, want); score > bestScore {
			best, bestScore = d, score
		}
	}
	if bestScore == 0 {
		slices.Sort(offered)
		return best, fmt.Errorf("%w: no image for %s, has: %s", ErrNoPlatform, want, strings.Join(slices.Compact(offered), ", "))
	}
	return best, nil
}

// fits says how well an image for platform has runs on want: 0 means not at all.
func fits(has, want v1.Platform) int {
	if has.OS != want.OS || has.Architecture != want.Architecture {
		return 0
	}
	hasVariant, wantVariant := variant(has), variant(want)
	switch {
	case hasVariant == wantVariant:
		return 100
	case want.Architecture == "arm" && hasVariant < wantVariant:
		return int(hasVariant[1] - '0') // an older variant runs too; the newest of them is best
	case hasVariant == "":
		return 1
	}
	return 0
}

// variant makes the defaults explicit: arm64 is v8, and 32-bit arm is v7 unless it says less.
func variant(p v1.Platform) string {
	switch {
	case len(p.Variant) == 2 && p.Variant[0] == 'v':
		return p.Variant
	case p.Architecture == "arm64":
		return "v8"
	case p.Architecture == "arm":
		return "v7"
	}
	return ""
}
