package apiserver

import (
	"net/http"
	"strings"

	"skerry.dev/skerry/coordinator/access/token"
)

// serveIssuer answers who wants to check the tokens of ServiceAccounts without asking the API about each. False for
// other paths, and when no tokens are made.
func (s *Server) serveIssuer(w http.ResponseWriter, r *http.Request) bool {
	if s.Accounts == nil {
		return false
	}
	var document func() ([]byte, error)
	media := typeJSON
	switch strings.TrimSuffix(r.URL.Path, "/") {
	case token.ConfigurationPath:
		document = s.Accounts.Configuration
	case token.KeysPath:
		document, media = s.Accounts.KeySet, "application/jwk-set+json"
	default:
		return false
	}
	body, err := document()
	if err != nil {
		s.writeError(w, r, err)
		return true
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	writeBody(w, http.StatusOK, body)
	return true
}
