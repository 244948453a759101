package token

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var requestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// Request answers a TokenRequest for an account. It completes in and returns it; errors are Status errors in upstream's
// words.
func (i *Issuer) Request(namespace, name string, in *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if err := checkTarget(namespace, name, in); err != nil {
		return nil, err
	}
	account, ok := get[*corev1.ServiceAccount](i.objects, accounts, namespace, name)
	if !ok {
		return nil, apierrors.NewNotFound(accounts.GroupResource(), name)
	}
	if in.UID != "" && in.UID != account.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: requestKind.Group, Resource: requestKind.Kind}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", in.UID, account.UID))
	}
	if len(in.Spec.Audiences) == 0 {
		in.Spec.Audiences = []string{IssuerName}
	}
	if in.Spec.ExpirationSeconds == nil {
		seconds := int64(defaultSeconds)
		in.Spec.ExpirationSeconds = &seconds
	}
	in.Name, in.Namespace, in.UID = name, namespace, account.UID
	if err := checkSeconds(*in.Spec.ExpirationSeconds); err != nil {
		return nil, err
	}
	o := order{account: account, audiences: in.Spec.Audiences, issued: i.now(), seconds: *in.Spec.ExpirationSeconds}
	if err := i.bind(&o, in.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	text, err := i.make(o)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	in.CreationTimestamp = metav1.NewTime(o.issued)
	in.Status = authenticationv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(o.issued.Add(secondsOf(o.seconds)))}
	return in, nil
}

func checkTarget(namespace, name string, in *authenticationv1.TokenRequest) error {
	path := field.NewPath("metadata")
	switch {
	case in.Name != "" && in.Name != name:
		return apierrors.NewInvalid(requestKind.GroupKind(), name, field.ErrorList{field.Invalid(path.Child("name"), in.Name, "must match the service account name if specified")})
	case in.Namespace != "" && in.Namespace != namespace:
		return apierrors.NewInvalid(requestKind.GroupKind(), name, field.ErrorList{field.Invalid(path.Child("namespace"), in.Namespace, "must match the service account namespace if specified")})
	}
	return nil
}

func checkSeconds(seconds int64) error {
	words := ""
	switch {
	case seconds < minSeconds:
		words = "may not specify a duration less than 10 minutes"
	case seconds > maxSeconds:
		words = "may not specify a duration larger than 2^32 seconds"
	default:
		return nil
	}
	return apierrors.NewInvalid(requestKind.GroupKind(), "", field.ErrorList{field.Invalid(field.NewPath("spec", "expirationSeconds"), seconds, words)})
}

// bind finds the object that the token is to end with.
func (i *Issuer) bind(o *order, to *authenticationv1.BoundObjectReference) error {
	if to == nil {
		return nil
	}
	gvk := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)
	var uid types.UID
	switch gvk.GroupKind() {
	case schema.GroupKind{Kind: "Pod"}:
		pod, ok := get[*corev1.Pod](i.objects, pods, o.account.Namespace, to.Name)
		if !ok {
			return apierrors.NewNotFound(pods.GroupResource(), to.Name)
		}
		if pod.Spec.ServiceAccountName != o.account.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", o.account.Name))
		}
		o.pod, o.node, uid = pod, i.nodeOf(pod), pod.UID
	case schema.GroupKind{Kind: "Secret"}:
		secret, ok := get[*corev1.Secret](i.objects, secrets, o.account.Namespace, to.Name)
		if !ok {
			return apierrors.NewNotFound(secrets.GroupResource(), to.Name)
		}
		o.secret, uid = secret, secret.UID
	case schema.GroupKind{Kind: "Node"}:
		node, ok := get[*corev1.Node](i.objects, nodes, "", to.Name)
		if !ok {
			return apierrors.NewNotFound(nodes.GroupResource(), to.Name)
		}
		o.node, uid = node, node.UID
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
	}
	if to.UID != "" && to.UID != uid {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, to.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	return nil
}
