package messaging

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// ErrCAHash means that a server is not of the cluster that was joined.
var ErrCAHash = errors.New("the server's certificate is not of the cluster that the CA hash names")

// ConnectOptions say how to reach the cluster and who we are. Exactly one of URLs and InProcess must be set.
type ConnectOptions struct {
	URLs []string // nats://host:port; all are tried, in random order
	// CAHash pins the cluster's certificate (see CAHash). Empty means no TLS, which is only for tests and InProcess.
	CAHash string
	// Node names the node; it sets the inbox prefix and the connection's name. Empty for anything that is not a node.
	Node string
	// KeySeed is the node's nkey seed, as NewSeed makes. nil for anything that is not a node.
	KeySeed []byte
	// Join is sent along with the key on each connect until the node is enrolled. Zero for an enrolled node.
	Join JoinToken
	// Token is the bearer token of an automation user, or the coordinator's secret. Empty for a node.
	Token string
	// Name shows in the server's connection list when Node is empty.
	Name string
	// InboxPrefix is where answers go when Node is empty. Empty means "_INBOX".
	InboxPrefix string
	// InProcess connects without a socket, to the embedded server or over a link that tests cut.
	InProcess nats.InProcessConnProvider
	// Dialer replaces the TCP dialer: a proxy, or a test's faulty link. nil for the default.
	Dialer nats.CustomDialer
	// FailFast makes Connect return the first refusal; otherwise it goes on trying for ever in the background.
	FailFast bool
	// PingInterval and two unanswered pings end a silent connection. 0 means 20 s.
	PingInterval time.Duration
	Logger       *slog.Logger // nil logs nothing

	OnConnect    func(*nats.Conn)        // after each connect and reconnect, in order with OnDisconnect. nil for none
	OnDisconnect func(*nats.Conn, error) // after each loss. nil for none
}

// Connect returns a connection that heals itself for ever. Unless FailFast is set it may not be connected yet. Nothing
// is buffered while the link is down: a publication then fails at once, and its caller decides. The context bounds
// nothing but FailFast's attempt: close the connection to end it.
func Connect(ctx context.Context, o ConnectOptions) (*nats.Conn, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	opts, err := o.options()
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok && o.FailFast {
		opts.Timeout = min(opts.Timeout, time.Until(deadline))
	}
	nc, err := opts.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to %v as %q: %w", o.URLs, opts.Name, explain(err))
	}
	return nc, nil
}

func (o ConnectOptions) options() (nats.Options, error) {
	if (len(o.URLs) > 0) == (o.InProcess != nil) {
		return nats.Options{}, errors.New("want either URLs or an in-process server")
	}
	opts := nats.GetDefaultOptions()
	opts.Servers, opts.InProcessServer, opts.CustomDialer = o.URLs, o.InProcess, o.Dialer
	opts.Name, opts.Token, opts.InboxPrefix = o.Name, o.Token, o.InboxPrefix
	opts.Timeout = 10 * time.Second
	if o.Dialer == nil && o.InProcess == nil {
		opts.CustomDialer = linkDialer(opts.Timeout)
	}
	opts.PingInterval, opts.MaxPingsOut = o.PingInterval, 2
	if o.PingInterval == 0 {
		opts.PingInterval = 20 * time.Second
	}
	o.healing(&opts)
	o.events(&opts)
	if o.CAHash != "" {
		if err := o.pin(&opts); err != nil {
			return nats.Options{}, err
		}
	}
	if o.Node != "" {
		return opts, o.identify(&opts)
	}
	return opts, nil
}

// healing makes the connection come back whatever happens. An authorization error is no reason to stop: a node may be
// enrolled again, or the coordinator may be starting.
func (o ConnectOptions) healing(opts *nats.Options) {
	opts.RetryOnFailedConnect = !o.FailFast
	opts.MaxReconnect = -1
	opts.IgnoreAuthErrorAbort = true
	opts.ReconnectWait = 2 * time.Second
	opts.ReconnectJitter = time.Second
	opts.ReconnectJitterTLS = 2 * time.Second
	opts.ReconnectBufSize = -1
	opts.PermissionErrOnSubscribe = true
}

func (o ConnectOptions) events(opts *nats.Options) {
	connected := func(nc *nats.Conn) {
		o.Logger.Info("connected", "server", nc.ConnectedUrlRedacted())
		if o.OnConnect != nil {
			o.OnConnect(nc)
		}
	}
	opts.ConnectedCB, opts.ReconnectedCB = connected, connected
	opts.DisconnectedErrCB = func(nc *nats.Conn, err error) {
		if err != nil { // nil: we have closed it
			o.Logger.Warn("disconnected", "err", err)
		}
		if o.OnDisconnect != nil {
			o.OnDisconnect(nc, err)
		}
	}
	opts.ReconnectErrCB = func(_ *nats.Conn, err error) { o.Logger.Warn("cannot connect", "err", explain(err)) }
	opts.AsyncErrorCB = func(_ *nats.Conn, sub *nats.Subscription, err error) {
		subject := ""
		if sub != nil {
			subject = sub.Subject
		}
		o.Logger.Warn("connection error", "subject", subject, "err", err)
	}
}

// pin trusts exactly the certificates for servers that the CA with our hash has issued.
func (o ConnectOptions) pin(opts *nats.Options) error {
	if err := checkCAHash(o.CAHash); err != nil {
		return err
	}
	opts.Secure, opts.TLSHandshakeFirst = true, true
	opts.TLSConfig = PinnedTLS(o.CAHash)
	return nil
}

// identify proves who the node is: the server sends a nonce, the node signs it. A join token goes along in the field for
// tokens, which the server reads only if the node is not enrolled yet.
func (o ConnectOptions) identify(opts *nats.Options) error {
	if len(o.KeySeed) == 0 {
		return fmt.Errorf("node %s has no key", o.Node)
	}
	pair, err := nkeys.FromSeed(o.KeySeed)
	if err != nil {
		return fmt.Errorf("key of node %s: %w", o.Node, err)
	}
	if opts.Nkey, err = pair.PublicKey(); err != nil {
		return fmt.Errorf("key of node %s: %w", o.Node, err)
	}
	opts.SignatureCB = pair.Sign
	opts.Name, opts.InboxPrefix = o.Node, InboxPrefix(o.Node)
	if o.Join != (JoinToken{}) {
		opts.Token = o.Join.Name + "." + o.Join.Secret
	}
	return nil
}

// explain adds what to do to errors that a person will meet.
func explain(err error) error {
	if errors.Is(err, nats.ErrAuthorization) {
		return fmt.Errorf("%w: the cluster does not know this name with this key, and the join token, if any, is used, "+
			"expired or of another cluster", err)
	}
	return err
}

// PinnedTLS is a client configuration that trusts the servers of one cluster only, by the hash of its CA certificate,
// which the server sends along. Names do not matter: nodes reach a cluster by whatever address works.
func PinnedTLS(caHash string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does the verifying, by the pin
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(caHash, cs.PeerCertificates, time.Now()) },
	}
}

func verifyPinned(caHash string, chain []*x509.Certificate, now time.Time) error {
	ca := findPinned(caHash, chain)
	if ca == nil {
		return fmt.Errorf("%w (%s)", ErrCAHash, caHash)
	}
	leaf, roots := chain[0], x509.NewCertPool()
	roots.AddCert(ca)
	// A machine without a battery clock may boot in 1970 and cannot reach a time server but through this connection. A
	// clock that is behind proves nothing about validity, so it is not held against a certificate of the future.
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	return nil
}

func findPinned(caHash string, chain []*x509.Certificate) *x509.Certificate {
	for _, c := range chain {
		sum := sha256.Sum256(c.Raw)
		hash := base64.RawURLEncoding.EncodeToString(sum[:])
		if c.IsCA && subtle.ConstantTimeCompare([]byte(hash), []byte(caHash)) == 1 {
			return c
		}
	}
	return nil
}
