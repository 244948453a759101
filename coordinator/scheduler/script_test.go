package scheduler_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/scheduler"
)

// TestScripts places what a text describes.
func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := &script{}
		return map[string]controllertest.Command{
			"node":  func(args []string) ([]string, error) { return nil, w.node(args) },
			"pod":   func(args []string) ([]string, error) { return nil, w.pod(args) },
			"place": func([]string) ([]string, error) { return w.place(), nil },
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

func setResource(list corev1.ResourceList, k, v string) error {
	q, err := resource.ParseQuantity(v)
	list[corev1.ResourceName(k)] = q
	return err
}

// pod name [x<count>] owner=o on=node cpu=1 memory=1Gi select:k=v tolerate=k:Effect port=8080 priority=5 image=i
// preempt=Never affinity=<json of NodeAffinity without spaces>, or any resource.
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
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: a}
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

// place prints the decisions and makes them so.
func (s *script) place() []string {
	var lines []string
	for _, d := range scheduler.Place(s.in) {
		if d.Node == "" {
			lines = append(lines, d.Pod.Name+": "+d.Message)
			continue
		}
		lines = append(lines, d.Pod.Name+" on "+d.Why())
		p := d.Pod.DeepCopy()
		p.Spec.NodeName = d.Node
		s.in.Bound = append(s.in.Bound, p)
	}
	s.in.Pending = nil
	return lines
}
