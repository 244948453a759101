package assign

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// refs are the names of the ConfigMaps, Secrets and PersistentVolumeClaims of its own namespace that a pod refers to, sorted, each once.
type refs struct {
	configMaps []string
	secrets    []string
	claims     []string
}

func references(pod *corev1.Pod) refs {
	var r refs
	for _, s := range pod.Spec.ImagePullSecrets {
		r.secrets = append(r.secrets, s.Name)
	}
	for i := range pod.Spec.InitContainers {
		r.container(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		r.container(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		r.container((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	for i := range pod.Spec.Volumes {
		r.volume(&pod.Spec.Volumes[i])
	}
	r.configMaps = distinct(r.configMaps)
	r.secrets = distinct(r.secrets)
	r.claims = distinct(controller.ClaimNames(pod))
	return r
}

func (r *refs) container(c *corev1.Container) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			r.configMaps = append(r.configMaps, from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			r.secrets = append(r.secrets, from.SecretRef.Name)
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			r.configMaps = append(r.configMaps, ref.Name)
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			r.secrets = append(r.secrets, ref.Name)
		}
	}
}

func (r *refs) volume(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		r.configMaps = append(r.configMaps, v.ConfigMap.Name)
	case v.Secret != nil:
		r.secrets = append(r.secrets, v.Secret.SecretName)
	case v.Projected != nil:
		for _, src := range v.Projected.Sources {
			if src.ConfigMap != nil {
				r.configMaps = append(r.configMaps, src.ConfigMap.Name)
			}
			if src.Secret != nil {
				r.secrets = append(r.secrets, src.Secret.Name)
			}
		}
	}
}

func distinct(names []string) []string {
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}
