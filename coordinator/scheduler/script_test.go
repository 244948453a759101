package scheduler_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/scheduler"
)

// TestScripts places what a text describes.
func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := &script{}
		return map[string]controllertest.Command{
			"node":      func(args []string) ([]string, error) { return nil, w.node(args) },
			"namespace": func(args []string) ([]string, error) { return nil, w.namespace(args) },
			"claim":     func(args []string) ([]string, error) { return nil, w.claim(args) },
			"budget":    func(args []string) ([]string, error) { return nil, w.budget(args) },
			"pod":       func(args []string) ([]string, error) { return nil, w.pod(args) },
			"place":     func([]string) ([]string, error) { return w.place(), nil },
			"gone":      func([]string) ([]string, error) { return w.gone(), nil },
		}
	})
}

type script struct{ in scheduler.Input }

// node name cpu=2 memory=4Gi pods=10 label:k=v taint=k:v:Effect cordoned=true ready=false image=name:MiB, or any resource.
func (s *script) node(args []string) error {
	n := newNode(args[0], "0", "0", 10)
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(k, "label:"):
			n.Labels[strings.TrimPrefix(k, "label:")] = v
		case k == "taint":
			part := strings.Split(v, ":")
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: part[0], Value: part[1], Effect: corev1.TaintEffect(part[2])})
		case k == "cordoned":
			n.Spec.Unschedulable = v == "true"
		case k == "ready":
			n.Status.Conditions[0].Status = corev1.ConditionStatus(strings.ToTitle(v[:1]) + v[1:])
		case k == "image":
			name, size, _ := strings.Cut(v, "@")
			mib, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return err
			}
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: mib << 20})
		default:
			if err := setResource(n.Status.Allocatable, k, v); err != nil {
				return err
			}
		}
	}
	s.in.Nodes = append(s.in.Nodes, n)
	return nil
}

// budget name label:k=v allowed=n disrupted=pod: of the pods in the default namespace with that label.
func (s *script) budget(args []string) error {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}}
	b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(k, "label:"):
			b.Spec.Selector.MatchLabels[strings.TrimPrefix(k, "label:")] = v
		case k == "disrupted":
			b.Status.DisruptedPods = map[string]metav1.Time{v: metav1.NewTime(now)}
		case k == "allowed":
			if _, err := fmt.Sscan(v, &b.Status.DisruptionsAllowed); err != nil {
				return err
			}
		}
	}
	s.in.Budgets = append(s.in.Budgets, b)
	return nil
}

func setResource(list corev1.ResourceList, k, v string) error {
	q, err := resource.ParseQuantity(v)
	list[corev1.ResourceName(k)] = q
	return err
}

// pod name [x<count>] owner=o on=node cpu=1 memory=1Gi select:k=v tolerate=k:Effect port=8080 priority=5 image=i
// preempt=Never affinity=<json of NodeAffinity without spaces> near=<json of PodAffinity> apart=<json of PodAntiAffinity>
// claim=name spread=<json of a TopologySpreadConstraint> ns=namespace label:k=v leaving=true nominated=node age=<duration>, or any
// resource.
func (s *script) pod(args []string) error {
	count := 1
	if len(args) > 1 && strings.HasPrefix(args[1], "x") {
		n, err := strconv.Atoi(args[1][1:])
		if err != nil {
			return err
		}
		count, args = n, append(args[:1:1], args[2:]...)
	}
	for i := range count {
		name := args[0]
		if count > 1 {
			name = fmt.Sprintf("%s-%d", name, i+1)
		}
		if err := s.onePod(name, args[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) onePod(name string, settings []string) error {
	p := newPod(name, "", "0", "0")
	container := &p.Spec.Containers[0]
	container.Resources.Requests = corev1.ResourceList{}
	for _, setting := range settings {
		k, v, _ := strings.Cut(setting, "=")
		switch {
		case strings.HasPrefix(k, "label:"):
			if p.Labels == nil {
				p.Labels = map[string]string{}
			}
			p.Labels[strings.TrimPrefix(k, "label:")] = v
		case k == "near" || k == "apart" || k == "spread":
			if err := readRule(p, k, v); err != nil {
				return err
			}
		case k == "claim":
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: v, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v},
			}})
		case k == "ns":
			p.Namespace = v
		case k == "nominated":
			p.Status.NominatedNodeName = v
		case k == "leaving":
			p.DeletionTimestamp = controllertest.Time(now)
		case k == "age":
			age, err := time.ParseDuration(v)
			if err != nil {
				return err
			}
			p.Status.StartTime = controllertest.Time(now.Add(-age))
		case strings.HasPrefix(k, "select:"):
			if p.Spec.NodeSelector == nil {
				p.Spec.NodeSelector = map[string]string{}
			}
			p.Spec.NodeSelector[strings.TrimPrefix(k, "select:")] = v
		case k == "owner":
			p.OwnerReferences = newPod("", v, "0", "0").OwnerReferences
		case k == "on":
			p.Spec.NodeName = v
		case k == "image":
			container.Image = v
		case k == "preempt":
			policy := corev1.PreemptionPolicy(v)
			p.Spec.PreemptionPolicy = &policy
		case k == "tolerate":
			key, effect, _ := strings.Cut(v, ":")
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)})
		case k == "affinity":
			a := &corev1.NodeAffinity{}
			if err := json.Unmarshal([]byte(v), a); err != nil {
				return err
			}
			affinityOf(p).NodeAffinity = a
		case k == "port" || k == "priority":
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return err
			}
			number := int32(n)
			if k == "priority" {
				p.Spec.Priority = &number
			} else {
				container.Ports = append(container.Ports, corev1.ContainerPort{HostPort: number})
			}
		default:
			if err := setResource(container.Resources.Requests, k, v); err != nil {
				return err
			}
		}
	}
	if p.Spec.NodeName != "" {
		s.in.Bound = append(s.in.Bound, p)
	} else {
		s.in.Pending = append(s.in.Pending, p)
	}
	return nil
}

func affinityOf(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func readRule(p *corev1.Pod, kind, text string) error {
	switch kind {
	case "near":
		affinityOf(p).PodAffinity = &corev1.PodAffinity{}
		return json.Unmarshal([]byte(text), affinityOf(p).PodAffinity)
	case "apart":
		affinityOf(p).PodAntiAffinity = &corev1.PodAntiAffinity{}
		return json.Unmarshal([]byte(text), affinityOf(p).PodAntiAffinity)
	}
	var c corev1.TopologySpreadConstraint
	err := json.Unmarshal([]byte(text), &c)
	p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	return err
}

// claim name on=node mode=ReadWriteOnce phase=Bound: a claim, and its volume if it is bound; without on, it is everywhere.
func (s *script) claim(args []string) error {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + args[0]}}
	for _, arg := range args[1:] {
		switch k, value, _ := strings.Cut(arg, "="); k {
		case "on":
			v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}},
			}}}}
		case "mode":
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.PersistentVolumeAccessMode(value)}
		case "phase":
			c.Status.Phase = corev1.PersistentVolumeClaimPhase(value)
		default:
			return fmt.Errorf("claim: %s", arg)
		}
	}
	if c.Status.Phase == corev1.ClaimBound {
		c.Spec.VolumeName = v.Name
		s.in.Volumes = append(s.in.Volumes, v)
	}
	s.in.Claims = append(s.in.Claims, c)
	return nil
}

// namespace name label:k=v
func (s *script) namespace(args []string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: args[0], Labels: map[string]string{}}}
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(strings.TrimPrefix(arg, "label:"), "=")
		ns.Labels[k] = v
	}
	s.in.Namespaces = append(s.in.Namespaces, ns)
	return nil
}

// place prints the decisions and makes them so.
func (s *script) place() []string {
	var lines []string
	decisions := scheduler.Place(s.in)
	s.in.Pending = nil
	for _, d := range decisions {
		switch {
		case d.Nominated != "":
			lines = append(lines, d.Pod.Name+" waits for "+d.Nominated+": "+d.Message)
			for _, v := range d.Victims {
				lines = append(lines, "  preempts "+v.Name)
				v.DeletionTimestamp = controllertest.Time(now)
			}
			d.Pod.Status.NominatedNodeName = d.Nominated
			s.in.Pending = append(s.in.Pending, d.Pod)
		case d.Node == "":
			lines = append(lines, d.Pod.Name+": "+d.Message)
		default:
			lines = append(lines, d.Pod.Name+" on "+d.Why())
			p := d.Pod.DeepCopy()
			p.Spec.NodeName = d.Node
			s.in.Bound = append(s.in.Bound, p)
		}
	}
	return lines
}

// gone removes the pods that are being deleted.
func (s *script) gone() []string {
	s.in.Bound = slices.DeleteFunc(s.in.Bound, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	return nil
}
