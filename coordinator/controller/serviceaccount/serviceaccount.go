// Package serviceaccount sees to it that every namespace has its default ServiceAccount and the certificate authority of
// the API, whatever was deleted or missed. coordinator/objects makes both with the namespace; this makes up for what was
// lost.
//
// It also puts tokens into Secrets of the type kubernetes.io/service-account-token, and deletes those whose account is no
// more.
package serviceaccount

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/objects"
)

var (
	accountKind   = schema.GroupKind{Kind: "ServiceAccount"}
	configMapKind = schema.GroupKind{Kind: "ConfigMap"}
	secretKind    = schema.GroupKind{Kind: "Secret"}
)

// Issuer makes the tokens that Secrets keep: a *token.Issuer.
type Issuer interface {
	ForSecret(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error)
}

// Controller returns the plan as the shell runs it. rootCA is the certificate authority in PEM.
func Controller(rootCA []byte, tokens Issuer) controller.Controller {
	p := planner{rootCA, tokens}
	return controller.Controller{Name: "serviceaccount", Reads: controller.Namespaces | controller.Others, Plan: p.plan}
}

type planner struct {
	rootCA []byte
	tokens Issuer
}

func (p planner) plan(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
	return append(p.furnish(s), p.fill(s)...), time.Time{}
}

// furnish gives namespaces what they lack.
func (p planner) furnish(s *controller.Snapshot) (changes []controller.Change) {
	if !s.Knows(accountKind) || !s.Knows(configMapKind) {
		return nil
	}
	for _, ns := range s.Namespaces {
		if ns.DeletionTimestamp != nil {
			continue
		}
		for _, want := range objects.Furnishings(ns.Name, p.rootCA) {
			switch want := want.(type) {
			case *corev1.ServiceAccount:
				if find(s.Others[accountKind], ns.Name, want.Name) == nil {
					changes = append(changes, controller.Change{Verb: controller.Create, Object: want})
				}
			case *corev1.ConfigMap:
				changes = append(changes, restore(want, find(s.Others[configMapKind], ns.Name, want.Name))...)
			}
		}
	}
	return changes
}

// restore makes the ConfigMap, or its content what it should be.
func restore(want *corev1.ConfigMap, have controller.Object) []controller.Change {
	old, ok := have.(*corev1.ConfigMap)
	if !ok {
		return []controller.Change{{Verb: controller.Create, Object: want}}
	}
	if old.DeletionTimestamp != nil || len(old.Data) == 1 && len(old.BinaryData) == 0 && old.Data["ca.crt"] == want.Data["ca.crt"] {
		return nil
	}
	next := old.DeepCopy()
	next.Data, next.BinaryData = want.Data, nil
	return []controller.Change{{Verb: controller.Update, Object: next}}
}

// find looks in a list that is sorted by namespace and name; nil when it is not there.
func find(list []controller.Object, namespace, name string) controller.Object {
	at, found := slices.BinarySearchFunc(list, name, func(o controller.Object, name string) int {
		return cmp.Or(cmp.Compare(o.GetNamespace(), namespace), cmp.Compare(o.GetName(), name))
	})
	if !found {
		return nil
	}
	return list[at]
}
