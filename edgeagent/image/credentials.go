package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Credentials are a user's at one registry. The zero value means none.
type Credentials struct {
	Username string
	Password string
	// Token is an identity token, used instead of the password where a registry gave one.
	Token string
}

func (c Credentials) authenticator() authn.Authenticator {
	if c == (Credentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.Token})
}

// dockerAuth is one entry of a Docker configuration file.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// CredentialsFor finds the credentials for image reference ref in pull secrets, as Kubernetes keeps them: each is the
// content of .dockerconfigjson (a Docker configuration file) or of the older .dockercfg. The entry with the longest
// matching path wins, the first secret among equals. Zero credentials mean that none fits.
func CredentialsFor(ref string, secrets ...[]byte) (Credentials, error) {
	r, err := parse(ref)
	if err != nil {
		return Credentials{}, err
	}
	target := canonicalHost(r.Context().RegistryStr()) + "/" + r.Context().RepositoryStr()
	best, bestLen := dockerAuth{}, -1
	for i, secret := range secrets {
		entries, err := parseSecret(secret)
		if err != nil {
			return Credentials{}, fmt.Errorf("pull secret %d of %d: %w", i+1, len(secrets), err)
		}
		for _, key := range sortedKeys(entries) {
			if prefix := canonicalKey(key); covers(prefix, target) && len(prefix) > bestLen {
				best, bestLen = entries[key], len(prefix)
			}
		}
	}
	return best.credentials()
}

func parseSecret(data []byte) (map[string]dockerAuth, error) {
	var file struct {
		Auths map[string]dockerAuth `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err == nil && file.Auths != nil {
		return file.Auths, nil
	}
	var old map[string]dockerAuth
	if err := json.Unmarshal(data, &old); err != nil {
		// The decoder's words could quote the secret.
		return nil, fmt.Errorf("want a Docker configuration file in JSON, with \"auths\"")
	}
	return old, nil
}

func sortedKeys(m map[string]dockerAuth) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// canonicalKey turns https://index.docker.io/v1/ and the like into host/path.
func canonicalKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	host, path, _ := strings.Cut(key, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	return strings.TrimSuffix(canonicalHost(host)+"/"+path, "/")
}

func canonicalHost(host string) string {
	switch host {
	case "docker.io", "registry-1.docker.io":
		return name.DefaultRegistry
	}
	return host
}

// covers says whether an entry for prefix (host, or host/path) is meant for target. The host may have * in its parts.
func covers(prefix, target string) bool {
	prefixHost, prefixPath, _ := strings.Cut(prefix, "/")
	host, path, _ := strings.Cut(target, "/")
	return hostMatches(prefixHost, host) && (prefixPath == "" || path == prefixPath || strings.HasPrefix(path, prefixPath+"/"))
}

func hostMatches(pattern, host string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(host, ".")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || w == "*" })
}

func (a dockerAuth) credentials() (Credentials, error) {
	c := Credentials{Username: a.Username, Password: a.Password, Token: a.IdentityToken}
	if c.Username != "" || a.Auth == "" {
		return c, nil
	}
	both, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(string(both), ":")
	if err != nil || !ok {
		return Credentials{}, fmt.Errorf("pull secret: auth is not base64 of user:password")
	}
	c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	return c, nil
}
