package hwprobe

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skerry.dev/skerry/api"
)

// Capacity is what a machine with this inventory has to give: CPU, memory, huge pages, the state folder's file system
// (diskBytes) and how many pods (maxPods).
func Capacity(inv api.Inventory, diskBytes, maxPods int64) corev1.ResourceList {
	hugeBytes := int64(0)
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(inv.CPU.Threads), resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(diskBytes, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	for _, h := range inv.Memory.HugePages {
		hugeBytes += h.Total * h.SizeBytes
		out[corev1.ResourceName(corev1.ResourceHugePagesPrefix+hugePageSize(h.SizeBytes))] = *resource.NewQuantity(h.Total*h.SizeBytes, resource.BinarySI)
	}
	// Pages set aside as huge ones cannot be given out as memory.
	out[corev1.ResourceMemory] = *resource.NewQuantity(max(0, inv.Memory.TotalBytes-hugeBytes), resource.BinarySI)
	return out
}

func hugePageSize(bytes int64) string {
	switch {
	case bytes >= 1<<30 && bytes%(1<<30) == 0:
		return strconv.FormatInt(bytes>>30, 10) + "Gi"
	case bytes >= 1<<20 && bytes%(1<<20) == 0:
		return strconv.FormatInt(bytes>>20, 10) + "Mi"
	}
	return strconv.FormatInt(bytes>>10, 10) + "Ki"
}
