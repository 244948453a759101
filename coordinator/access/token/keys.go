// Package token makes and checks the tokens of ServiceAccounts: JSON web tokens that name the account, what they are for
// and until when, and the object they are bound to, as upstream's.
//
// A token is good only while its account and its object are there under the same UID, which is looked up in
// coordinator/view at each use: deleting a pod ends its tokens at once. The package keeps nothing and writes nothing.
package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Keys sign tokens and check them. The first key signs; the others are those that signed before, whose tokens hold until
// they expire.
type Keys struct {
	signer jose.Signer
	public map[string]*ecdsa.PublicKey // by key id
}

// NewKey makes a private key in PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// NewKeys takes private keys in PEM.
func NewKeys(signing []byte, former ...[]byte) (*Keys, error) {
	k := &Keys{public: map[string]*ecdsa.PublicKey{}}
	key, id, err := parseKey(signing)
	if err != nil {
		return nil, err
	}
	k.public[id] = &key.PublicKey
	k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		return nil, fmt.Errorf("service account key: %w", err)
	}
	for _, data := range former {
		key, id, err := parseKey(data)
		if err != nil {
			return nil, err
		}
		k.public[id] = &key.PublicKey
	}
	return k, nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, string, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, "", errors.New("service account key: no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("service account key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, "", errors.New("service account key: not an ECDSA key on P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, "", fmt.Errorf("service account key: %w", err)
	}
	sum := sha256.Sum256(der)
	return key, base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// sign makes a token of the claims, for each pod that is placed. The library's builder of claims would take them apart and
// put them together again, for as much as the signature costs.
func (k *Keys) sign(c any) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// errForeign says that a text is no token of this cluster.
var errForeign = errors.New("not a token of this cluster")

// open checks the signature and gives the claims, which say nothing yet about time and objects.
func (k *Keys) open(text string) (claims, error) {
	var c claims
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(parsed.Headers) != 1 {
		return c, errForeign
	}
	key := k.public[parsed.Headers[0].KeyID]
	if key == nil {
		return c, errForeign
	}
	if err := parsed.Claims(key, &c, &c.legacy); err != nil {
		return c, errForeign
	}
	return c, nil
}
