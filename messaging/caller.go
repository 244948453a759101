package messaging

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// UsersAccount is the NATS account of automation users.
const UsersAccount = "USERS"

// callerHeader is set by the server on each request that comes from an account which shares who asks.
const callerHeader = "Nats-Request-Info"

// Caller is who sent a request. The client may have made all of it up but for the ID: it knows no other login's (see
// embedded.NewUserID). So an ID that is known is believed, and all else is for people to read.
type Caller struct {
	ID      string `json:"user"` // the embedded.UserGrant's
	Account string `json:"acc"`
	Address string `json:"host"` // empty for a connection within the process
	Client  string `json:"lang"` // the client library's language, as it says itself
	Version string `json:"ver"`  // of that library
	Name    string `json:"name"` // of the connection, as the client chose it
}

// ErrNoCaller says that nobody vouches for who sent a request.
var ErrNoCaller = errors.New("the request does not come from an automation user")

// CallerOf reads who sent a request out of its headers. The error is ErrNoCaller unless they say, once, that it was an
// automation user.
func CallerOf(h nats.Header) (Caller, error) {
	var c Caller
	said := h[callerHeader]
	if len(said) != 1 {
		return c, fmt.Errorf("%w: %d headers %s", ErrNoCaller, len(said), callerHeader)
	}
	if err := json.Unmarshal([]byte(said[0]), &c); err != nil {
		return Caller{}, fmt.Errorf("%w: header %s: %w", ErrNoCaller, callerHeader, err)
	}
	if c.Account != UsersAccount || c.ID == "" {
		return Caller{}, fmt.Errorf("%w: account %q", ErrNoCaller, c.Account)
	}
	return c, nil
}
