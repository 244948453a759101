package token

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
)

// TestStrangersCheckTokens checks a token as a program does that knows the published documents alone.
func TestStrangersCheckTokens(t *testing.T) {
	w := newWorld(t)
	var said struct {
		Issuer     string   `json:"issuer"`
		KeysAt     string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	published(t, w.Configuration, &said)
	if said.Issuer != IssuerName || said.KeysAt != IssuerName+KeysPath || len(said.Algorithms) != 1 {
		t.Errorf("configuration %+v", said)
	}
	var keys jose.JSONWebKeySet
	published(t, w.KeySet, &keys)
	parsed, err := jwt.ParseSigned(w.token(t, authenticationv1.TokenRequestSpec{Audiences: []string{"strangers"}}), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(said.Algorithms[0])})
	if err != nil {
		t.Fatal(err)
	}
	var c jwt.Claims
	if err := parsed.Claims(keys, &c); err != nil {
		t.Fatalf("the published keys do not open a token: %v", err)
	}
	if c.Issuer != said.Issuer || !c.Audience.Contains("strangers") {
		t.Errorf("claims %+v", c)
	}
}

func TestFormerKeysArePublishedWithoutSecrets(t *testing.T) {
	former, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	issuer := New(newKeys(t, former), nil, nil)
	var keys jose.JSONWebKeySet
	published(t, issuer.KeySet, &keys)
	if len(keys.Keys) != 2 {
		t.Errorf("%d keys, want the present and the former", len(keys.Keys))
	}
	for _, k := range keys.Keys {
		if !k.IsPublic() || k.Use != "sig" {
			t.Errorf("key %s for %s is published with its secret part", k.KeyID, k.Use)
		}
	}
	if body, err := issuer.KeySet(); err != nil || strings.Contains(string(body), `"d":`) {
		t.Errorf("keys %s, %v", body, err)
	}
}

func published(t *testing.T, document func() ([]byte, error), into any) {
	t.Helper()
	body, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}
