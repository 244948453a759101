package coordinator

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/messaging/embedded"
)

// logins remembers who has logged in to NATS, by an ID that is secret (see embedded.NewUserID). One credential has one ID,
// however often it logs in.
type logins struct {
	tokens authn.Tokens
	now    func() time.Time

	mu     sync.Mutex
	known  map[string]credential        // by ID
	ids    map[[sha256.Size]byte]string // by the credential's sum
	pruned time.Time
}

// credential is what was shown: a token, which is looked up each time, or a certificate, which holds until it ends.
type credential struct {
	token string
	user  authn.User // of a certificate
	ends  time.Time  // of a certificate
	sum   [sha256.Size]byte
}

// pruneInterval is how often credentials that do not hold any more are forgotten, when somebody logs in.
const pruneInterval = time.Minute

func newLogins(tokens authn.Tokens) *logins {
	return &logins{tokens: tokens, now: time.Now, known: map[string]credential{}, ids: map[[sha256.Size]byte]string{}}
}

var errCredential = errors.New("certificate or token is unknown, expired or revoked")

// add finds the user of a login, and remembers it under the ID. A certificate goes before a token, as with HTTP.
func (l *logins) add(login embedded.UserLogin) (id string, user authn.User, err error) {
	c := credential{token: login.Token, sum: sha256.Sum256([]byte(login.Token))}
	if login.Certificate != nil {
		c = ofCertificate(login.Certificate)
	}
	user, ok := l.holds(c)
	if !ok {
		return "", user, errCredential
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune()
	if id = l.ids[c.sum]; id == "" {
		id = embedded.NewUserID(user.Name)
		l.ids[c.sum] = id
	}
	l.known[id] = c
	return id, user, nil
}

func ofCertificate(cert *x509.Certificate) credential {
	return credential{
		user: authn.CertificateUser(cert), ends: cert.NotAfter,
		sum: sha256.Sum256(append([]byte("certificate "), cert.Raw...)), // no token begins so
	}
}

// user is the one who logged in under an ID; ok is false once the credential holds no more.
func (l *logins) user(id string) (u authn.User, ok bool) {
	l.mu.Lock()
	c, ok := l.known[id]
	l.mu.Unlock()
	if !ok {
		return authn.User{}, false
	}
	return l.holds(c)
}

func (l *logins) holds(c credential) (u authn.User, ok bool) {
	if c.token != "" {
		u, ok = l.tokens.Lookup(c.token)
	} else {
		u, ok = c.user, c.user.Name != "" && l.now().Before(c.ends)
	}
	if ok && !u.In(authn.GroupAuthenticated) {
		u.Groups = append(slices.Clone(u.Groups), authn.GroupAuthenticated)
	}
	return u, ok
}

// prune forgets what holds no more, so that tokens which are renewed each hour do not pile up. The caller holds the lock.
func (l *logins) prune() {
	if l.now().Sub(l.pruned) < pruneInterval {
		return
	}
	l.pruned = l.now()
	maps.DeleteFunc(l.known, func(_ string, c credential) bool {
		_, ok := l.holds(c)
		if !ok {
			delete(l.ids, c.sum)
		}
		return !ok
	})
}
