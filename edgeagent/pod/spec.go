package pod

import (
	"crypto/sha256"
	"encoding/hex"

	corev1 "k8s.io/api/core/v1"
)

// Spec returns the container of that name, init and ephemeral ones included; nil when the pod has none.
func Spec(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return ephemeral(pod, name)
}

func ephemeral(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.EphemeralContainers {
		if c := Ephemeral(pod, i); c.Name == name {
			return c
		}
	}
	return nil
}

// Ephemeral returns the ephemeral container of that index, as the container that it is but for its target.
func Ephemeral(pod *corev1.Pod, i int) *corev1.Container {
	return (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
}

// Hash identifies what of a container's spec makes a running instance out of date. As in the kubelet
// (kuberuntime.HashContainer) that is name and image only: the rest of a pod's spec cannot be changed.
func Hash(c *corev1.Container) string {
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Image))
	return hex.EncodeToString(sum[:8])
}

// Sidecar says whether an init container is one that keeps running beside the others.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// QOS is the pod's quality-of-service class: as stored when the API server has set it, otherwise by the rule of
// k8s.io/component-helpers/resource: Guaranteed when every container has limits equal to its requests for cpu and memory,
// BestEffort when none has any.
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	guaranteed, any := true, false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			g, a := qosOf(&list[i].Resources)
			guaranteed, any = guaranteed && g, any || a
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

func qosOf(r *corev1.ResourceRequirements) (guaranteed, any bool) {
	guaranteed = true
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, limited := r.Limits[name]
		request, requested := r.Requests[name]
		any = any || (limited && !limit.IsZero()) || (requested && !request.IsZero())
		if !limited || limit.IsZero() || (requested && request.Cmp(limit) != 0) {
			guaranteed = false
		}
	}
	return guaranteed, any
}
