package messaging

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// CAHash is the pin of a CA certificate in PEM: base64url of SHA-256 over its DER bytes.
func CAHash(certPEM []byte) (string, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("hash CA: no PEM certificate in %d bytes", len(certPEM))
	}
	sum := sha256.Sum256(block.Bytes)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func checkCAHash(hash string) error {
	if sum, err := base64.RawURLEncoding.DecodeString(hash); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("CA hash %q: want base64url of %d bytes", hash, sha256.Size)
	}
	return nil
}

// Lifetimes. Nodes pin the CA and may be off the link for long, so it lives long; a server's certificate is made anew at
// a start when less than renewBefore of it is left.
const (
	caLife      = 10 * 365 * 24 * time.Hour
	serverLife  = 365 * 24 * time.Hour
	clientLife  = 365 * 24 * time.Hour
	renewBefore = 90 * 24 * time.Hour
	// clockSkew lets machines whose clocks are behind believe a fresh certificate.
	clockSkew = 24 * time.Hour
)

// Authority is the cluster's certificate authority, kept in a folder. Its methods may be called concurrently, but Server
// for one name at a time.
type Authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pem    []byte
	hash   string
}

// OpenAuthority loads the CA in folder (ca.crt, ca.key), or makes one there if there is none (P-256, 10 years). A CA of
// which a part is missing or unreadable is an error: a new one in its place would lock every node out.
func OpenAuthority(folder string, now time.Time) (*Authority, error) {
	a := &Authority{folder: folder}
	certPath, keyPath := a.path("ca.crt"), a.path("ca.key")
	certPEM, certErr := os.ReadFile(certPath)
	keyPEM, keyErr := os.ReadFile(keyPath)
	switch {
	case errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		if err := a.create(now); err != nil {
			return nil, fmt.Errorf("make certificate authority: %w", err)
		}
		return a, nil
	case errors.Is(certErr, fs.ErrNotExist) && keyErr == nil && !a.hasIssued(): // died between the two files
		if err := a.recreate(keyPEM, now); err != nil {
			return nil, fmt.Errorf("make certificate authority: %w", err)
		}
		return a, nil
	case certErr != nil || keyErr != nil:
		return nil, fmt.Errorf("open certificate authority: %w", errors.Join(certErr, keyErr))
	}
	if err := a.load(certPEM, keyPEM); err != nil {
		return nil, fmt.Errorf("open certificate authority in %s: %w", folder, err)
	}
	return a, nil
}

// hasIssued says whether the CA has ever made a certificate, so that nodes may have pinned it.
func (a *Authority) hasIssued() bool {
	issued, err := filepath.Glob(a.path("*.crt"))
	return err != nil || len(issued) > 0
}

func (a *Authority) path(name string) string { return filepath.Join(a.folder, name) }

func (a *Authority) create(now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	// The key first: a certificate without its key could sign nothing and would be in the way.
	if err := writeFile(a.path("ca.key"), keyPEM, 0o600); err != nil {
		return err
	}
	return a.recreate(keyPEM, now)
}

func (a *Authority) recreate(keyPEM []byte, now time.Time) error {
	key, err := decodeKey(keyPEM)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "skerry cluster CA", Organization: []string{"skerry"}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writeFile(a.path("ca.crt"), certPEM, 0o644); err != nil {
		return err
	}
	return a.load(certPEM, keyPEM)
}

func (a *Authority) load(certPEM, keyPEM []byte) (err error) {
	if a.key, err = decodeKey(keyPEM); err != nil {
		return err
	}
	if a.cert, err = decodeCert(certPEM); err != nil {
		return err
	}
	if public, ok := a.cert.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(a.key.Public()) {
		return errors.New("ca.key does not belong to ca.crt")
	}
	a.pem = certPEM
	a.hash, err = CAHash(certPEM)
	return err
}

// Hash is the CA's pin.
func (a *Authority) Hash() string { return a.hash }

// PEM is the CA certificate.
func (a *Authority) PEM() []byte { return slices.Clone(a.pem) }

// Server loads folder/<name>.crt and .key, or makes them anew when missing, near expiry, of another CA or when hosts (IPs
// and DNS names) changed. The chain includes the CA.
func (a *Authority) Server(name string, hosts []string, now time.Time) (tls.Certificate, error) {
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	certPath, keyPath := a.path(name+".crt"), a.path(name+".key")
	if pair, err := tls.LoadX509KeyPair(certPath, keyPath); err == nil && a.fits(pair.Leaf, hosts, now) {
		return pair, nil
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"skerry"}}, NotAfter: now.Add(serverLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	certPEM, keyPEM, err := a.issue(template, now)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate %s: %w", name, err)
	}
	certPEM = append(certPEM, a.pem...)
	if err := errors.Join(writeFile(keyPath, keyPEM, 0o600), writeFile(certPath, certPEM, 0o644)); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// fits says whether a server certificate on disk can go on serving.
func (a *Authority) fits(leaf *x509.Certificate, hosts []string, now time.Time) bool {
	if leaf == nil || leaf.CheckSignatureFrom(a.cert) != nil || now.After(leaf.NotAfter.Add(-renewBefore)) {
		return false
	}
	have := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		have = append(have, ip.String())
	}
	slices.Sort(have)
	return slices.Equal(have, hosts)
}

// Client makes a client certificate (CN user, O groups) for the Kubernetes API, in PEM, valid for a year.
func (a *Authority) Client(user string, groups []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	certPEM, keyPEM, err = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: user, Organization: groups}, NotAfter: now.Add(clientLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, now)
	if err != nil {
		return nil, nil, fmt.Errorf("make client certificate for %s: %w", user, err)
	}
	return certPEM, keyPEM, nil
}

// issue signs a template that has subject, end and use, for a key that it makes.
func (a *Authority) issue(template *x509.Certificate, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if certPEM, err = a.sign(template, key.Public(), now); err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return certPEM, keyPEM, err
}

func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey, now time.Time) ([]byte, error) {
	var err error
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.NotBefore, template.KeyUsage = now.Add(-clockSkew), x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("no private key found")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is a %T, not an ECDSA one", parsed)
	}
	return key, nil
}

func decodeCert(certPEM []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, errors.New("no certificate found")
	}
	return x509.ParseCertificate(block.Bytes)
}

// writeFile writes a file whole or not at all, and durably.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
