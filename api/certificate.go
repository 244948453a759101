package api

import "time"

// CertificatePath is where administrators have the coordinator sign client certificates.
const CertificatePath = "/skerry/v1/certificates"

// CertificateRequest asks for a client certificate. It is no stored object.
type CertificateRequest struct {
	Request   []byte `json:"request"`   // a PKCS #10 request in PEM: the common name is the user, the organizations are the groups
	ExpiresIn string `json:"expiresIn"` // how long the certificate holds, as 168h
	// System lets the user and groups begin with system:, which gives rights that no binding shows.
	System bool `json:"system,omitempty"`
}

// Certificate is the answer.
type Certificate struct {
	Certificate []byte    `json:"certificate"` // PEM
	Authority   []byte    `json:"authority"`   // the cluster's CA in PEM
	Expires     time.Time `json:"expires"`
}
