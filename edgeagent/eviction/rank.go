package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// systemCritical is scheduling.SystemCriticalPriority: from here on a pod is never evicted, whatever the need.
const systemCritical = 2_000_000_000

// Critical says whether the node must keep the pod, as the kubelet's IsCriticalPod.
func Critical(p *corev1.Pod) bool {
	return p.Spec.Priority != nil && *p.Spec.Priority >= systemCritical
}

// ranked are the pods that may be evicted for a resource, the first first: those that use more than they asked for, then by
// priority, then by how much more. Pods that are ending anyhow are left out. Of process ids nobody asks for any.
func (d *decision) ranked(r corev1.ResourceName) []Pod {
	var out []Pod
	for _, p := range d.s.Pods {
		if !p.Ending {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Pod) int {
		exceeds := 0
		if r != pids {
			exceeds = first(a.use(r) > request(a.Pod, r), b.use(r) > request(b.Pod, r))
		}
		return cmp.Or(exceeds, cmp.Compare(priority(a.Pod), priority(b.Pod)),
			-cmp.Compare(a.use(r)-request(a.Pod, r), b.use(r)-request(b.Pod, r)), cmp.Compare(a.UID, b.UID))
	})
	return out
}

// first orders what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// use is what the whole pod uses of a resource.
func (p Pod) use(r corev1.ResourceName) int64 {
	total, disk := int64(0), Disk{}
	for _, c := range p.Containers {
		disk = disk.plus(c.Rootfs).plus(c.Logs)
		switch r {
		case corev1.ResourceMemory:
			total += c.MemoryBytes
		case pids:
			total += c.Pids
		default:
		}
	}
	for _, v := range p.Volumes {
		disk = disk.plus(v)
	}
	switch r {
	case corev1.ResourceEphemeralStorage:
		return disk.Bytes
	case inodes:
		return disk.Inodes
	default:
		return total
	}
}

// request is what the whole pod asks for; as in the kubelet nobody asks for inodes or process ids.
func request(p *corev1.Pod, r corev1.ResourceName) int64 {
	if q, whole := podLevel(p, func(n *corev1.ResourceRequirements) corev1.ResourceList { return n.Requests })[r]; whole {
		return q.Value()
	}
	return total(p, func(c *corev1.Container) int64 {
		q := c.Resources.Requests[r]
		return q.Value()
	})
}

func podLevel(p *corev1.Pod, of func(*corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	if p.Spec.Resources == nil {
		return nil
	}
	return of(p.Spec.Resources)
}

// total is the larger of what containers and sidecars have together and of what each init container has beside the sidecars
// that are started before it.
func total(p *corev1.Pod, of func(*corev1.Container) int64) int64 {
	sum, sidecars, peak := int64(0), int64(0), int64(0)
	for i := range p.Spec.Containers {
		sum += of(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars += of(c)
			peak = max(peak, sidecars)
			continue
		}
		peak = max(peak, sidecars+of(c))
	}
	return max(sum+sidecars, peak)
}
