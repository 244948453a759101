package automation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// redact returns what may be published of an object: a Secret without its data, which kubectl also keeps in an
// annotation. Whoever may read Secrets asks the API for them. The object is not changed.
func redact(obj runtime.Object) runtime.Object {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return obj
	}
	out := secret.DeepCopy()
	out.Data, out.StringData = nil, nil
	delete(out.Annotations, corev1.LastAppliedConfigAnnotation)
	return out
}
