package messaging

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"testing"
	"time"
)

func TestSignClient(t *testing.T) {
	now := time.Now()
	a, err := OpenAuthority(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	request, key, err := NewClientRequest("ci", []string{"b", "deployers"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseClientRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	cert, ends, err := a.SignClient(r, time.Hour, now)
	if err != nil || !ends.Equal(now.Add(time.Hour)) {
		t.Fatalf("ends %s: %v", ends, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: usage, CurrentTime: now}); err != nil {
		t.Error(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: usage, CurrentTime: now.Add(61 * time.Minute)}); err == nil {
		t.Error("holds after its end")
	}
	if s := pair.Leaf.Subject; s.CommonName != "ci" || !slices.Equal(s.Organization, []string{"b", "deployers"}) || pair.Leaf.IsCA {
		t.Errorf("subject %s, CA %v", s, pair.Leaf.IsCA)
	}
	for _, life := range []time.Duration{0, -time.Hour, MaxClientLife + 1} {
		if _, _, err := a.SignClient(r, life, now); err == nil {
			t.Errorf("signed for %s", life)
		}
	}
	old := now.Add(caLife - time.Minute)
	if _, ends, err := a.SignClient(r, time.Hour, old); err != nil || ends.After(now.Add(caLife)) {
		t.Errorf("outlives the CA: %s, %v", ends, err)
	}
}

func TestParseClientRequestRefuses(t *testing.T) {
	good, _, err := NewClientRequest("ci", nil)
	if err != nil {
		t.Fatal(err)
	}
	nameless, _, err := NewClientRequest("", []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	forged := bytes.Replace(block.Bytes, []byte("ci"), []byte("me"), 1) // somebody else's signature
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, request := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("ci"), "two": append(bytes.Clone(good), good...), "no name": nameless,
		"another block": encode("CERTIFICATE", block.Bytes), "no request": encode(requestBlock, []byte("ci")),
		"forged": encode(requestBlock, forged), "another kind of key": encode(requestBlock, other),
	} {
		if _, err := ParseClientRequest(request); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseClientRequest(f *testing.F) {
	good, _, err := NewClientRequest("ci", []string{"a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseClientRequest(data); err == nil && (r.User == "" || r.public == nil) {
			t.Errorf("accepted %q as %+v", data, r)
		}
	})
}
