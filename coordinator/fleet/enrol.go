package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// Reasons to turn a node away. They are for the coordinator's log: the node is told no more than no.
var (
	ErrUnknownKey   = errors.New("key is not enrolled and no join token was given")
	ErrUnknownToken = errors.New("join token is unknown, or its secret is wrong")
	ErrTokenUsed    = errors.New("join token was used before; make another with `skerry token create`")
	ErrTokenExpired = errors.New("join token has expired; make another with `skerry token create`")
	ErrTokenForeign = errors.New("join token is for a node of another name")
	ErrNameTaken    = errors.New("a node of this name is enrolled with another key; to replace it make a token with `skerry token create --node NAME`")
)

// Enrolment decides which nodes may connect. A join token is good for one key; that key is the node's identity from then
// on. Safe for concurrent use.
type Enrolment struct {
	view    *view.View
	objects *objects.Store
	log     *slog.Logger
}

// NewEnrolment returns an enrolment over the API's objects.
func NewEnrolment(v *view.View, o *objects.Store, log *slog.Logger) *Enrolment {
	return &Enrolment{view: v, objects: o, log: log}
}

// Node returns nil if the login may connect as the node it names. It is embedded.Authenticator's.
func (e *Enrolment) Node(ctx context.Context, login embedded.NodeLogin) error {
	if faults := validation.IsDNS1123Subdomain(login.Node); len(faults) > 0 {
		return fmt.Errorf("node name %q: %s", login.Node, faults[0])
	}
	credential, enrolled := get[*api.NodeCredential](e.view, "", login.Node)
	if enrolled && credential.PublicKey == login.PublicKey {
		return nil
	}
	if login.TokenName == "" {
		if enrolled {
			return ErrNameTaken
		}
		return ErrUnknownKey
	}
	if err := e.claim(ctx, login, enrolled); err != nil {
		return err
	}
	if err := e.admit(ctx, login, credential); err != nil {
		return err
	}
	e.log.Info("node enrolled", "node", login.Node, "token", login.TokenName, "key", login.PublicKey)
	return nil
}

// claim marks the token as this key's. Compare-and-set lets one of two racing nodes win.
func (e *Enrolment) claim(ctx context.Context, login embedded.NodeLogin, nameTaken bool) error {
	token, ok := get[*api.EnrolmentToken](e.view, "", login.TokenName)
	if !ok {
		return ErrUnknownToken
	}
	if err := admissible(token, login, nameTaken, time.Now()); err != nil {
		return err
	}
	if token.Status.UsedBy != "" {
		return nil // by this very key: its enrolment was cut off
	}
	claimed := token.DeepCopy()
	now := metav1.Now()
	claimed.Status = api.EnrolmentTokenStatus{UsedBy: login.Node, PublicKey: login.PublicKey, UsedAt: &now}
	_, err := e.objects.UpdateStatus(ctx, claimed, objects.WriteOptions{FieldManager: api.ComponentCoordinator})
	if apierrors.IsConflict(err) {
		return ErrTokenUsed
	}
	return err
}

// admissible is the pure part of claim.
func admissible(token *api.EnrolmentToken, login embedded.NodeLogin, nameTaken bool, now time.Time) error {
	switch {
	case !messaging.SecretMatches(token.Spec.SecretHash, login.Secret):
		return ErrUnknownToken
	case token.Spec.Node != "" && token.Spec.Node != login.Node:
		return ErrTokenForeign
	case token.Status.UsedBy != "" && (token.Status.UsedBy != login.Node || token.Status.PublicKey != login.PublicKey):
		return ErrTokenUsed
	case token.Status.UsedBy != "":
		return nil
	case now.After(token.Spec.Expires.Time):
		return ErrTokenExpired
	case nameTaken && token.Spec.Node == "":
		return ErrNameTaken
	}
	return nil
}

// admit records the key. An enrolled node's key is replaced only under a token that names the node.
func (e *Enrolment) admit(ctx context.Context, login embedded.NodeLogin, old *api.NodeCredential) error {
	fresh := &api.NodeCredential{
		ObjectMeta: metav1.ObjectMeta{Name: login.Node},
		PublicKey:  login.PublicKey, Enrolled: metav1.Now(),
	}
	if old != nil {
		replaced := old.DeepCopy()
		replaced.PublicKey, replaced.Enrolled = fresh.PublicKey, fresh.Enrolled
		_, _, err := e.objects.Update(ctx, replaced, objects.WriteOptions{FieldManager: api.ComponentCoordinator})
		return err
	}
	_, err := e.objects.Create(ctx, fresh, objects.WriteOptions{FieldManager: api.ComponentCoordinator})
	return err
}

// object is a pointer to an API type that the view can hold.
type object interface {
	runtime.Object
	metav1.Object
}

// get reads an object of T's kind; the zero T and false when there is none.
func get[T object](v *view.View, namespace, name string) (T, bool) {
	var zero T
	item, ok := v.Get(resourceOf[T](), namespace, name)
	if !ok {
		return zero, false
	}
	obj, ok := item.Object.(T)
	return obj, ok
}
