package messaging

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrJoinToken means that a text is not a join token.
var ErrJoinToken = errors.New("not a join token")

const joinTokenPrefix = "skerry1"

// JoinToken lets a machine become a node: it says whom to trust and proves that it may come. Its text form is
// skerry1.<base64url SHA-256 of the CA certificate>.<token name>.<secret>.
type JoinToken struct {
	CAHash string // CAHash of the cluster's certificate
	Name   string // the EnrolmentToken object's name
	Secret string // base64url of 32 random bytes; the cluster keeps only HashSecret of it
}

// NewJoinToken makes a token called name with a random secret.
func NewJoinToken(caHash, name string) (JoinToken, error) {
	t := JoinToken{CAHash: caHash, Name: name, Secret: randomText(32)}
	if err := t.validate(); err != nil {
		return JoinToken{}, err
	}
	return t, nil
}

// ParseJoinToken undoes String. Spaces and line ends around the text are ignored: tokens are pasted.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if parts[0] != joinTokenPrefix {
		return JoinToken{}, fmt.Errorf("%w: want a text that starts with %q", ErrJoinToken, joinTokenPrefix+".")
	}
	if len(parts) != 4 {
		return JoinToken{}, fmt.Errorf("%w: want 4 parts between dots, have %d: is it cut off?", ErrJoinToken, len(parts))
	}
	t := JoinToken{CAHash: parts[1], Name: parts[2], Secret: parts[3]}
	if err := t.validate(); err != nil {
		return JoinToken{}, err
	}
	return t, nil
}

// String is the text to hand to the new node. It holds the secret: never log it.
func (t JoinToken) String() string {
	return joinTokenPrefix + "." + t.CAHash + "." + t.Name + "." + t.Secret
}

func (t JoinToken) validate() error {
	if err := checkCAHash(t.CAHash); err != nil {
		return fmt.Errorf("%w: %w", ErrJoinToken, err)
	}
	if !isLabel(t.Name) {
		return fmt.Errorf("%w: name %q: want lower-case letters, digits and dashes, at most 63", ErrJoinToken, t.Name)
	}
	if secret, err := base64.RawURLEncoding.DecodeString(t.Secret); err != nil || len(secret) < 16 {
		return fmt.Errorf("%w: the secret is damaged: is it cut off?", ErrJoinToken)
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// HashSecret is what the cluster stores of a join token's secret: hex of SHA-256. A secret has 256 random bits, so a
// slow hash would add nothing.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// SecretMatches says whether hash is HashSecret(secret), in a time that does not depend on where they differ.
func SecretMatches(hash, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(HashSecret(secret))) == 1
}

// randomText is n random bytes in base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
