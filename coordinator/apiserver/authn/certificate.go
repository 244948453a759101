package authn

import (
	"crypto/x509"
	"net/http"
)

// Certificates authenticates by a client certificate: the common name is the user, the organizations are the groups. It
// trusts only chains that the TLS listener has verified, so the listener must be given the CA.
type Certificates struct{}

// Authenticate returns ErrNone for a connection without a verified client certificate.
func (Certificates) Authenticate(r *http.Request) (User, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return User{}, ErrNone
	}
	user := CertificateUser(r.TLS.VerifiedChains[0][0])
	if user.Name == "" {
		return User{}, ErrNone
	}
	return user, nil
}

// CertificateUser is the user of a certificate that has been verified; without a name, when it has none.
func CertificateUser(leaf *x509.Certificate) User {
	return User{Name: leaf.Subject.CommonName, Groups: leaf.Subject.Organization}
}
