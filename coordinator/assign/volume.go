package assign

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// claims finds the volumes of the pod's claims; nil when it has none. A claim that is not bound is left out: the node waits
// for it.
func (p *Publisher) claims(pod *corev1.Pod, names []string) map[string]messaging.Claim {
	if len(names) == 0 {
		return nil
	}
	out := map[string]messaging.Claim{}
	for _, name := range names {
		c, ok := p.State.Claim(pod.Namespace, name)
		if !ok || c.Status.Phase != corev1.ClaimBound {
			continue
		}
		v, ok := p.State.Volume(c.Spec.VolumeName)
		if !ok || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID {
			continue
		}
		if found, ok := whereabouts(v); ok {
			out[name] = found
		}
	}
	return out
}

// whereabouts is where a node finds the volume; ok is false for the kinds of volumes that nodes cannot mount.
func whereabouts(v *corev1.PersistentVolume) (c messaging.Claim, ok bool) {
	switch {
	case controller.IsLocal(v):
		return messaging.Claim{Volume: v.Name}, true
	case v.Spec.Local != nil:
		return messaging.Claim{Path: v.Spec.Local.Path, Type: string(corev1.HostPathDirectory)}, true
	case v.Spec.HostPath != nil:
		c.Path = v.Spec.HostPath.Path
		if t := v.Spec.HostPath.Type; t != nil {
			c.Type = string(*t)
		}
		return c, true
	}
	return c, false
}

// condemned are the volumes whose data nodes are to remove, by node, sorted.
func (p *Publisher) condemned() map[string][]string {
	var out map[string][]string
	for _, v := range p.State.Volumes() {
		if !controller.Condemned(v) {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}
		home := controller.HomeOf(v)
		out[home] = append(out[home], v.Name)
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}
