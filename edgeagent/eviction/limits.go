package eviction

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// overLimits are the pods that use more ephemeral storage than they may; all of them go at once, as in the kubelet.
func (d *decision) overLimits() []Verdict {
	var out []Verdict
	for _, p := range d.s.Pods {
		if !p.Measured || p.Ending || Critical(p.Pod) {
			continue
		}
		if message := p.excess(); message != "" {
			out = append(out, Verdict{UID: string(p.UID), Message: message, Grace: immediate})
		}
	}
	return out
}

// excess says which limit the pod exceeds; empty when none.
func (p Pod) excess() string {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if size := sizeLimit(v); size > 0 && p.Volumes[v.Name].Bytes > size {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	if limit, limited := storageLimit(p.Pod); limited && p.use(corev1.ResourceEphemeralStorage) > limit {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", quantity(limit, corev1.ResourceEphemeralStorage))
	}
	for _, c := range containers(p.Pod) {
		limit := c.Resources.Limits.StorageEphemeral()
		use := p.Containers[c.Name]
		if !limit.IsZero() && use.Rootfs.plus(use.Logs).Bytes > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return ""
}

// sizeLimit of an emptyDir on the disk. That of one in memory is the kernel's to keep.
func sizeLimit(v *corev1.Volume) int64 {
	if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault || v.EmptyDir.SizeLimit == nil {
		return 0
	}
	return v.EmptyDir.SizeLimit.Value()
}

// storageLimit is the limit of the pod as a whole.
func storageLimit(p *corev1.Pod) (bytes int64, limited bool) {
	bytes = total(p, func(c *corev1.Container) int64 {
		q, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		limited = limited || ok
		return q.Value()
	})
	return bytes, limited
}

// containers are those that may have a limit of their own: the regular ones and sidecars.
func containers(p *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range p.Spec.Containers {
		out = append(out, &p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// limited says whether anything of the pod has a limit of storage.
func limited(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if sizeLimit(&p.Spec.Volumes[i]) > 0 {
			return true
		}
	}
	_, limited := storageLimit(p)
	return limited
}
