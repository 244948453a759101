package apiserver_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/coordinator/access/token"
	"skerry.dev/skerry/coordinator/apiserver"
)

func TestIssuerIsDiscovered(t *testing.T) {
	key, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, func(config *apiserver.Config) { config.Accounts = token.New(keys, config.View, time.Now) })
	for path, want := range map[string]struct{ media, word string }{
		token.ConfigurationPath: {"application/json", `"jwks_uri":"` + token.IssuerName + token.KeysPath + `"`},
		token.KeysPath:          {"application/jwk-set+json", `"kty":"EC"`},
	} {
		a := c.get(path, nil)
		if a.code != http.StatusOK || a.header.Get("Content-Type") != want.media || !strings.Contains(string(a.body), want.word) {
			t.Errorf("%s: %d %s %s", path, a.code, a.header.Get("Content-Type"), a.body)
		}
		c.token = guestToken
		if a := c.get(path, nil); a.code != http.StatusForbidden {
			t.Errorf("%s for somebody without the role: %d", path, a.code)
		}
		c.token = adminToken
	}
}
