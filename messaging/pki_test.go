package messaging_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skerry.dev/skerry/messaging"
)

var now = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

func openCA(t *testing.T, folder string) *messaging.Authority {
	t.Helper()
	a, err := messaging.OpenAuthority(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAuthorityIsKept(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "pki")
	first, second := openCA(t, folder), openCA(t, folder)
	if first.Hash() != second.Hash() {
		t.Fatal("opened again, the CA is another one")
	}
	if hash, err := messaging.CAHash(first.PEM()); err != nil || hash != first.Hash() {
		t.Fatalf("hash %s, error %v, want %s", hash, err, first.Hash())
	}
	info, err := os.Stat(filepath.Join(folder, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file %v, error %v", info, err)
	}
}

// A CA that was in use is never replaced: that would lock out every node.
func TestAuthorityIsNeverReplaced(t *testing.T) {
	for name, damage := range map[string]func(folder string) error{
		"no key":     func(f string) error { return os.Remove(filepath.Join(f, "ca.key")) },
		"no cert":    func(f string) error { return os.Remove(filepath.Join(f, "ca.crt")) },
		"bad key":    func(f string) error { return os.WriteFile(filepath.Join(f, "ca.key"), []byte("x"), 0o600) },
		"empty cert": func(f string) error { return os.Truncate(filepath.Join(f, "ca.crt"), 0) },
		"other key": func(f string) error {
			_, err := messaging.OpenAuthority(filepath.Join(f, "other"), now)
			if err != nil {
				return err
			}
			return os.Rename(filepath.Join(f, "other", "ca.key"), filepath.Join(f, "ca.key"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			a := openCA(t, folder)
			if _, err := a.Server("nats", []string{"localhost"}, now); err != nil {
				t.Fatal(err)
			}
			if err := damage(folder); err != nil {
				t.Fatal(err)
			}
			if _, err := messaging.OpenAuthority(folder, now); err == nil {
				t.Fatal("opened")
			}
		})
	}
}

// Power lost between the two files of the first start: the next start finishes.
func TestAuthorityCutShort(t *testing.T) {
	folder := t.TempDir()
	openCA(t, folder)
	if err := os.Remove(filepath.Join(folder, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	openCA(t, folder)
}

func TestServerCertificate(t *testing.T) {
	folder := t.TempDir()
	a := openCA(t, folder)
	serial := func(a *messaging.Authority, at time.Time, hosts ...string) string {
		t.Helper()
		cert, err := a.Server("api", hosts, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(cert.Certificate) != 2 {
			t.Fatalf("chain of %d certificates, want 2: nodes find the CA in it", len(cert.Certificate))
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			if err := leaf.VerifyHostname(h); err != nil {
				t.Error(err)
			}
		}
		return leaf.SerialNumber.String()
	}
	first := serial(a, now, "localhost", "127.0.0.1", "::1")
	if got := serial(openCA(t, folder), now.AddDate(0, 1, 0), "::1", "localhost", "127.0.0.1"); got != first {
		t.Error("made anew without need")
	}
	second := serial(a, now, "localhost", "192.0.2.1")
	if second == first {
		t.Error("not made anew for other hosts")
	}
	if got := serial(a, now.AddDate(0, 11, 0), "localhost", "192.0.2.1"); got == second {
		t.Error("not made anew near its end")
	}
	foreign := openCA(t, t.TempDir())
	cert, err := foreign.Server("api", []string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(filepath.Join(folder, "api.crt"), block, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Server("api", []string{"localhost"}, now); err != nil {
		t.Error(err)
	}
}

func TestClientCertificate(t *testing.T) {
	a := openCA(t, t.TempDir())
	certPEM, _, err := a.Client("admin", []string{"system:masters"}, now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "admin" || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != "system:masters" {
		t.Fatalf("subject %v", cert.Subject)
	}
	// A user's certificate must not pass for a server: nodes trust all servers of the CA.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.PEM())
	for usage, want := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if (err == nil) != want {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
}
