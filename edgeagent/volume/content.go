package volume

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/resolve"
)

// content is one file of a volume.
type content struct {
	data []byte
	mode int32
}

// source computes the files of a volume, by path.
type source func() (map[string]content, error)

const defaultMode int32 = 0o644

func modeOr(mode *int32, otherwise int32) int32 {
	if mode != nil {
		return *mode
	}
	return otherwise
}

func configMapFiles(refs resolve.Refs, s *corev1.ConfigMapVolumeSource) source {
	return func() (map[string]content, error) {
		data, err := refs.ConfigMap(s.Name, s.Optional)
		if err != nil {
			return nil, err
		}
		return pick(data, s.Items, modeOr(s.DefaultMode, defaultMode), s.Optional, "configmap "+s.Name)
	}
}

func secretFiles(refs resolve.Refs, s *corev1.SecretVolumeSource) source {
	return func() (map[string]content, error) {
		data, err := refs.Secret(s.SecretName, s.Optional)
		if err != nil {
			return nil, err
		}
		return pick(data, s.Items, modeOr(s.DefaultMode, defaultMode), s.Optional, "secret "+s.SecretName)
	}
}

// pick selects the named keys, or all.
func pick(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional *bool, what string) (map[string]content, error) {
	out := map[string]content{}
	if len(items) == 0 {
		for key, value := range data {
			out[key] = content{value, mode}
		}
		return out, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("%s references non-existent key: %s", what, item.Key)
		}
		out[item.Path] = content{value, modeOr(item.Mode, mode)}
	}
	return out, nil
}

func downwardFiles(refs resolve.Refs, items []corev1.DownwardAPIVolumeFile, mode *int32) source {
	return func() (map[string]content, error) {
		out := map[string]content{}
		for _, item := range items {
			text, err := downward(refs, item)
			if err != nil {
				return nil, err
			}
			out[item.Path] = content{[]byte(text), modeOr(item.Mode, modeOr(mode, defaultMode))}
		}
		return out, nil
	}
}

func downward(refs resolve.Refs, item corev1.DownwardAPIVolumeFile) (string, error) {
	switch {
	case item.FieldRef != nil:
		return refs.Field(item.FieldRef.FieldPath)
	case item.ResourceFieldRef != nil:
		return refs.ResourceField(item.ResourceFieldRef, &corev1.Container{})
	default:
		return "", fmt.Errorf("item %q names no field", item.Path)
	}
}

func projectedFiles(refs resolve.Refs, p *corev1.ProjectedVolumeSource) source {
	return func() (map[string]content, error) {
		out := map[string]content{}
		var errs []error
		for _, s := range p.Sources {
			part, err := projection(refs, s, p.DefaultMode)
			errs = append(errs, err)
			maps.Copy(out, part)
		}
		return out, errors.Join(errs...)
	}
}

func projection(refs resolve.Refs, s corev1.VolumeProjection, mode *int32) (map[string]content, error) {
	switch {
	case s.ConfigMap != nil:
		return configMapFiles(refs, &corev1.ConfigMapVolumeSource{
			LocalObjectReference: s.ConfigMap.LocalObjectReference, Items: s.ConfigMap.Items, Optional: s.ConfigMap.Optional, DefaultMode: mode,
		})()
	case s.Secret != nil:
		return secretFiles(refs, &corev1.SecretVolumeSource{
			SecretName: s.Secret.Name, Items: s.Secret.Items, Optional: s.Secret.Optional, DefaultMode: mode,
		})()
	case s.DownwardAPI != nil:
		return downwardFiles(refs, s.DownwardAPI.Items, mode)()
	case s.ServiceAccountToken != nil:
		token, err := refs.Token(s.ServiceAccountToken)
		return map[string]content{s.ServiceAccountToken.Path: {token, modeOr(mode, defaultMode)}}, err
	default:
		return nil, errKind
	}
}

// sorted returns the paths in order, for stable results.
func sorted(m map[string]content) []string { return slices.Sorted(maps.Keys(m)) }
