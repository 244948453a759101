package messaging

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func TestPin(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	ours, other := authority(t, now), authority(t, now)
	server, client := serverChain(t, ours, now), clientChain(t, ours, now)
	mixed := []*x509.Certificate{serverChain(t, other, now)[0], server[1]}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		now   time.Time
		ok    bool
	}{
		"server":                         {server, now, true},
		"server, clock in 1970":          {server, time.Unix(0, 0), true},
		"server, after its end":          {server, now.Add(serverLife + time.Hour), false},
		"other cluster":                  {serverChain(t, other, now), now, false},
		"other server with our CA in it": {mixed, now, false},
		"a user's certificate":           {client, now, false},
		"without the CA":                 {server[:1], now, false},
		"nothing":                        {nil, now, false},
	} {
		err := verifyPinned(ours.Hash(), c.chain, c.now)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verifyPinned(ours.Hash(), serverChain(t, other, now), now); !errors.Is(err, ErrCAHash) {
		t.Errorf("other cluster: %v", err)
	}
}

func authority(t *testing.T, now time.Time) *Authority {
	t.Helper()
	a, err := OpenAuthority(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serverChain(t *testing.T, a *Authority, now time.Time) []*x509.Certificate {
	t.Helper()
	cert, err := a.Server("nats", []string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	chain := make([]*x509.Certificate, len(cert.Certificate))
	for i, der := range cert.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	return chain
}

func clientChain(t *testing.T, a *Authority, now time.Time) []*x509.Certificate {
	t.Helper()
	certPEM, _, err := a.Client("admin", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := decodeCert(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{leaf, a.cert}
}
