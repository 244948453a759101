package apiserver

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Accounts makes and checks the tokens of ServiceAccounts: a *token.Issuer.
type Accounts interface {
	Request(namespace, name string, in *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
	// Check gives the user of a token that is for one of the audiences, and those of them that it is for. No audiences are
	// the API's.
	Check(token string, audiences []string) (authn.User, []string, error)
	// Configuration and KeySet tell others, in JSON, how to check tokens by themselves.
	Configuration() ([]byte, error)
	KeySet() ([]byte, error)
}

// requestToken makes a token for the ServiceAccount of the path.
func (s *Server) requestToken(c *call) error {
	if s.Accounts == nil {
		return s.notImplemented(c)
	}
	in := &authenticationv1.TokenRequest{}
	if err := c.decodeInto(in, c.sub().GVK); err != nil {
		return err
	}
	o, err := c.writeOptions()
	if err != nil {
		return err
	}
	out, err := s.Accounts.Request(c.namespace, c.name, in)
	if err != nil {
		return err
	}
	if o.DryRun {
		out.Status.Token = ""
	}
	return s.respondObject(c, http.StatusCreated, out)
}

// reviewToken says whose a token is.
func (s *Server) reviewToken(spec authenticationv1.TokenReviewSpec) authenticationv1.TokenReviewStatus {
	if s.Accounts == nil {
		return authenticationv1.TokenReviewStatus{}
	}
	user, audiences, err := s.Accounts.Check(spec.Token, spec.Audiences)
	if err != nil {
		return authenticationv1.TokenReviewStatus{Error: err.Error()}
	}
	if !user.In(authn.GroupAuthenticated) {
		user.Groups = append(user.Groups, authn.GroupAuthenticated)
	}
	return authenticationv1.TokenReviewStatus{Authenticated: true, User: userInfo(user), Audiences: audiences}
}
