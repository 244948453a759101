package objects

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"skerry.dev/skerry/coordinator/objects/validation"
)

// ingressStrategy: an Ingress without a class gets the default one, as by upstream's admission plugin.
func (s *Store) ingressStrategy() *strategy {
	return &strategy{
		create: one(func(i *networkingv1.Ingress) {
			i.Status = networkingv1.IngressStatus{}
			i.Generation = 1
			if i.Spec.IngressClassName == nil && i.Annotations[validation.IngressClassAnnotation] == "" {
				i.Spec.IngressClassName = s.defaultIngressClass()
			}
		}),
		update: two(func(i, old *networkingv1.Ingress) {
			old.Status.DeepCopyInto(&i.Status)
			if !equality.Semantic.DeepEqual(i.Spec, old.Spec) {
				i.Generation = old.Generation + 1
			}
		}),
		status: two(func(i, old *networkingv1.Ingress) { old.Spec.DeepCopyInto(&i.Spec) }),
	}
}

// defaultIngressClass is the newest of those that are marked so, by name among equals; nil when there is none.
func (s *Store) defaultIngressClass() *string {
	var classes []*networkingv1.IngressClass
	items, _ := s.view.List(ingressClasses, "")
	for _, item := range items {
		if c, ok := item.Object.(*networkingv1.IngressClass); ok && c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			classes = append(classes, c)
		}
	}
	if len(classes) == 0 {
		return nil
	}
	newest := slices.MinFunc(classes, func(a, b *networkingv1.IngressClass) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return &newest.Name
}

func ingressClassStrategy() *strategy {
	return &strategy{
		create: one(func(c *networkingv1.IngressClass) { c.Generation = 1 }),
		update: two(func(c, old *networkingv1.IngressClass) {
			if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
				c.Generation = old.Generation + 1
			}
		}),
	}
}

func networkPolicyStrategy() *strategy {
	return &strategy{
		create: one(func(p *networkingv1.NetworkPolicy) { p.Generation = 1 }),
		update: two(func(p, old *networkingv1.NetworkPolicy) {
			if !equality.Semantic.DeepEqual(p.Spec, old.Spec) {
				p.Generation = old.Generation + 1
			}
		}),
	}
}
