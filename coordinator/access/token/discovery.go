package token

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Paths below the issuer's name at which others find how to check tokens: OpenID Connect's, and upstream's for the keys.
const (
	ConfigurationPath = "/.well-known/openid-configuration"
	KeysPath          = "/openid/v1/jwks"
)

// configuration is what OpenID Connect requires an issuer to say.
type configuration struct {
	Issuer        string   `json:"issuer"`
	KeysAt        string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

// Configuration is the issuer's OpenID configuration as JSON. The keys are at the issuer's own name, which pods can reach
// and the API's certificate is for.
func (i *Issuer) Configuration() ([]byte, error) {
	body, err := json.Marshal(configuration{
		Issuer: IssuerName, KeysAt: IssuerName + KeysPath, ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"},
		Algorithms: []string{string(jose.ES256)},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the configuration of the token issuer: %w", err)
	}
	return body, nil
}

// KeySet is the public keys that tokens may be signed with, as a JSON Web Key Set, in the order of their ids.
func (i *Issuer) KeySet() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, id := range slices.Sorted(maps.Keys(i.keys.public)) {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: i.keys.public[id], KeyID: id, Algorithm: string(jose.ES256), Use: "sig"})
	}
	body, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode the keys of the token issuer: %w", err)
	}
	return body, nil
}
