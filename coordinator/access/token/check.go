package token

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
)

// Names of what a token adds to its user.
const (
	extraPod        = "authentication.kubernetes.io/pod-name"
	extraPodUID     = "authentication.kubernetes.io/pod-uid"
	extraNode       = "authentication.kubernetes.io/node-name"
	extraNodeUID    = "authentication.kubernetes.io/node-uid"
	extraCredential = "authentication.kubernetes.io/credential-id"
)

// Lookup implements authn.Tokens: the user of a token for the API.
func (i *Issuer) Lookup(text string) (authn.User, bool) {
	user, _, err := i.Check(text, nil)
	return user, err == nil
}

// Check finds the user of a token that is for one of the audiences, and which of them it is for. No audiences are the
// API's.
func (i *Issuer) Check(text string, audiences []string) (authn.User, []string, error) {
	c, err := i.keys.open(text)
	if err != nil {
		return authn.User{}, nil, err
	}
	if c.Issuer == legacyIssuer {
		return i.checkLegacy(text, c, audiences)
	}
	if len(audiences) == 0 {
		audiences = []string{IssuerName}
	}
	shared := slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !slices.Contains(c.Audience, a) })
	if len(shared) == 0 {
		return authn.User{}, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(c.Audience), audiences)
	}
	if err := i.checkTime(c); err != nil {
		return authn.User{}, nil, err
	}
	if err := i.checkObjects(c.Kubernetes); err != nil {
		return authn.User{}, nil, err
	}
	return userOf(c), shared, nil
}

func (i *Issuer) checkTime(c claims) error {
	now := i.now()
	switch {
	case c.Issuer != IssuerName:
		return errForeign
	case c.Expiry == nil || now.After(c.Expiry.Time().Add(leeway)):
		return errors.New("service account token has expired")
	case c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time()):
		return errors.New("service account token is not valid yet")
	}
	return nil
}

// errEnded says that what a token is bound to is gone.
var errEnded = errors.New("service account token has been invalidated")

func (i *Issuer) checkObjects(b bound) error {
	checks := []error{there[*corev1.ServiceAccount](i, accounts, b.Namespace, &b.Account)}
	if b.Secret != nil {
		checks = append(checks, there[*corev1.Secret](i, secrets, b.Namespace, b.Secret))
	}
	switch {
	case b.Pod != nil: // its node is only told
		checks = append(checks, there[*corev1.Pod](i, pods, b.Namespace, b.Pod))
	case b.Node != nil:
		checks = append(checks, there[*corev1.Node](i, nodes, "", b.Node))
	}
	return errors.Join(checks...)
}

// there is nil when the object is there under its UID and not long in deletion.
func there[T interface {
	metav1.Object
	runtime.Object
}](i *Issuer, res *resource.Resource, namespace string, r *ref) error {
	obj, ok := get[T](i.objects, res, namespace, r.Name)
	if !ok || string(obj.GetUID()) != r.UID {
		return errEnded
	}
	if at := obj.GetDeletionTimestamp(); at != nil && at.Add(leeway).Before(i.now()) {
		return errEnded
	}
	return nil
}

func userOf(c claims) authn.User {
	b := c.Kubernetes
	user := authn.ServiceAccount(b.Namespace, b.Account.Name, b.Account.UID)
	user.Extra = map[string][]string{}
	if c.ID != "" {
		user.Extra[extraCredential] = []string{"JTI=" + c.ID}
	}
	add := func(r *ref, name, uid string) {
		if r == nil {
			return
		}
		user.Extra[name] = []string{r.Name}
		if r.UID != "" {
			user.Extra[uid] = []string{r.UID}
		}
	}
	add(b.Pod, extraPod, extraPodUID)
	add(b.Node, extraNode, extraNodeUID)
	return user
}

func secondsOf(n int64) time.Duration { return time.Duration(n) * time.Second }
