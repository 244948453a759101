package messaging

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// NewClientRequest makes a key (P-256) and a request for a client certificate with it, both in PEM. The key need never
// leave the machine that will use it.
func NewClientRequest(user string, groups []string) (requestPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	subject := pkix.Name{CommonName: user, Organization: groups}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request for %s: %w", user, err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}), keyPEM, nil
}

const requestBlock = "CERTIFICATE REQUEST"

// ClientRequest is what a certificate request asks for: whose certificate, and in which groups.
type ClientRequest struct {
	User   string
	Groups []string
	public *ecdsa.PublicKey
}

// ParseClientRequest reads a certificate request in PEM. It must be signed with its own ECDSA key and name a user; of all
// else that it asks for, nothing is granted.
func ParseClientRequest(requestPEM []byte) (ClientRequest, error) {
	block, rest := pem.Decode(requestPEM)
	if block == nil || block.Type != requestBlock || len(rest) != 0 {
		return ClientRequest{}, fmt.Errorf("want one PEM block %s", requestBlock)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return ClientRequest{}, fmt.Errorf("certificate request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return ClientRequest{}, fmt.Errorf("certificate request: %w", err)
	}
	public, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return ClientRequest{}, fmt.Errorf("certificate request: the key is a %T, want an ECDSA one", r.PublicKey)
	}
	if r.Subject.CommonName == "" {
		return ClientRequest{}, errors.New("certificate request: no common name, which is the user")
	}
	return ClientRequest{User: r.Subject.CommonName, Groups: r.Subject.Organization, public: public}, nil
}

// MaxClientLife is the longest that a client certificate may hold: nothing revokes one.
const MaxClientLife = clientLife

// SignClient makes the client certificate that r asks for, in PEM. life must be positive and at most MaxClientLife; the
// certificate ends no later than the CA.
func (a *Authority) SignClient(r ClientRequest, life time.Duration, now time.Time) ([]byte, time.Time, error) {
	if life <= 0 || life > MaxClientLife {
		return nil, time.Time{}, fmt.Errorf("a client certificate may hold for up to %s, not %s", MaxClientLife, life)
	}
	ends := now.Add(life)
	if ends.After(a.cert.NotAfter) {
		ends = a.cert.NotAfter
	}
	certPEM, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: r.User, Organization: r.Groups}, NotAfter: ends,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, r.public, now)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign client certificate of %s: %w", r.User, err)
	}
	return certPEM, ends, nil
}
