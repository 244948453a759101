package serviceaccount

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// fill puts tokens into the Secrets that are for them.
func (p planner) fill(s *controller.Snapshot) (changes []controller.Change) {
	if !s.Knows(accountKind) || !s.Knows(secretKind) {
		return nil
	}
	for _, o := range s.Others[secretKind] {
		secret, ok := o.(*corev1.Secret)
		if ok && secret.Type == corev1.SecretTypeServiceAccountToken && secret.DeletionTimestamp == nil {
			changes = append(changes, p.fillOne(s, secret)...)
		}
	}
	return changes
}

// fillOne deletes a Secret whose account is not there, and else gives it what it lacks.
func (p planner) fillOne(s *controller.Snapshot, secret *corev1.Secret) []controller.Change {
	account := accountOf(s, secret)
	if account == nil {
		return []controller.Change{{Verb: controller.Delete, Object: secret}}
	}
	next := secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	if len(p.rootCA) > 0 {
		next.Data[corev1.ServiceAccountRootCAKey] = p.rootCA
	}
	if len(next.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		next.Data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	}
	if len(next.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := p.tokens.ForSecret(account, secret)
		if err != nil {
			return []controller.Change{{Events: []controller.Event{failure(secret, err)}}}
		}
		next.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	if maps.EqualFunc(secret.Data, next.Data, bytes.Equal) {
		return nil
	}
	next.Annotations[corev1.ServiceAccountNameKey] = account.Name // there already, since it named the account
	next.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	return []controller.Change{{Verb: controller.Update, Object: next}}
}

// accountOf is the account that a Secret names, by its UID too if it says it; nil when that is not there.
func accountOf(s *controller.Snapshot, secret *corev1.Secret) *corev1.ServiceAccount {
	found, ok := find(s.Others[accountKind], secret.Namespace, secret.Annotations[corev1.ServiceAccountNameKey]).(*corev1.ServiceAccount)
	if uid := secret.Annotations[corev1.ServiceAccountUIDKey]; !ok || uid != "" && uid != string(found.UID) {
		return nil
	}
	return found
}

func failure(secret *corev1.Secret, err error) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{Kind: "Secret", APIVersion: "v1", Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID},
		Type:      corev1.EventTypeWarning, Reason: "FailedCreateToken", Message: err.Error(),
	}
}
