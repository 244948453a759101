package token

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// legacyIssuer is the iss of tokens that are kept in Secrets.
const legacyIssuer = "kubernetes/serviceaccount"

// invalidSince is the label of a Secret whose token is not to be used any more.
const invalidSince = "kubernetes.io/legacy-token-invalid-since"

// legacy are the private claims of a token that is kept in a Secret, under upstream's names.
type legacy struct {
	Account    string `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Secret     string `json:"kubernetes.io/serviceaccount/secret.name"`
	Namespace  string `json:"kubernetes.io/serviceaccount/namespace"`
}

// ForSecret makes the token of an account that the Secret is to keep. It is for the API and never expires: it ends with the
// account, with the Secret, or when the Secret holds another.
func (i *Issuer) ForSecret(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	return i.keys.sign(struct {
		jwt.Claims
		legacy
	}{
		jwt.Claims{Issuer: legacyIssuer, Subject: authn.ServiceAccountName(account.Namespace, account.Name)},
		legacy{Account: account.Name, AccountUID: string(account.UID), Secret: secret.Name, Namespace: account.Namespace},
	})
}

// checkLegacy finds the user of a token that is kept in a Secret.
func (i *Issuer) checkLegacy(text string, c claims, audiences []string) (authn.User, []string, error) {
	if len(audiences) > 0 && !slices.Contains(audiences, IssuerName) {
		return authn.User{}, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string{IssuerName}, audiences)
	}
	l := c.legacy
	if l.Namespace == "" || l.Account == "" || l.AccountUID == "" || l.Secret == "" || c.Subject != authn.ServiceAccountName(l.Namespace, l.Account) {
		return authn.User{}, nil, errForeign
	}
	if err := i.checkKept(text, l); err != nil {
		return authn.User{}, nil, err
	}
	return authn.ServiceAccount(l.Namespace, l.Account, l.AccountUID), []string{IssuerName}, nil
}

func (i *Issuer) checkKept(text string, l legacy) error {
	secret, ok := get[*corev1.Secret](i.objects, secrets, l.Namespace, l.Secret)
	if !ok || secret.DeletionTimestamp != nil {
		return errEnded
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(text)) == 0 {
		return errors.New("token does not match server's copy")
	}
	account, ok := get[*corev1.ServiceAccount](i.objects, accounts, l.Namespace, l.Account)
	if !ok || account.DeletionTimestamp != nil || string(account.UID) != l.AccountUID {
		return errEnded
	}
	if secret.Labels[invalidSince] != "" {
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			l.Namespace, l.Secret, l.Namespace, l.Account, invalidSince)
	}
	return nil
}
