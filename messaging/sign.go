package messaging

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// ErrSignature means that a message was not signed by the key that should have signed it, or not for its subject.
var ErrSignature = errors.New("signature does not match")

// signDomain keeps a signature made here from meaning anything elsewhere, and the other way round: a nonce that a NATS
// server asks the same key to sign can never be a manifest.
const signDomain = "skerry message v1\x00"

// Signer signs what a coordinator sends to nodes. It is safe for concurrent use.
type Signer struct{ pair nkeys.KeyPair }

// NewSigner makes a signer from an nkey seed ("S..."), as NewSeed returns.
func NewSigner(seed []byte) (*Signer, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("signing seed: %w", err)
	}
	return &Signer{pair: pair}, nil
}

// NewSeed makes a fresh user nkey seed, fit for NewSigner and for ConnectOptions.KeySeed.
func NewSeed() ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return pair.Seed()
}

// PublicKey is what Verify wants ("U...").
func (s *Signer) PublicKey() (string, error) { return s.pair.PublicKey() }

// Sign signs data for subject. For a key of KV_assign the subject is the original one (AssignKey), not the republished
// one, so that the signature holds on both ways to a node.
func (s *Signer) Sign(subject string, data []byte) (string, error) {
	sig, err := s.pair.Sign(signedBytes(subject, data))
	if err != nil {
		return "", fmt.Errorf("sign for %s: %w", subject, err)
	}
	return base64.RawURLEncoding.EncodeToString(sig), nil
}

// Verify returns nil if signature is Sign(subject, data) by the holder of publicKey, and an ErrSignature otherwise.
func Verify(publicKey, subject string, data []byte, signature string) error {
	pair, err := nkeys.FromPublicKey(publicKey)
	if err != nil {
		return fmt.Errorf("public key %q: %w", publicKey, err)
	}
	sig, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || pair.Verify(signedBytes(subject, data), sig) != nil {
		return fmt.Errorf("%w: %s, key %s", ErrSignature, subject, publicKey)
	}
	return nil
}

// signedBytes gives the subject its length, so that no byte can move between subject and data.
func signedBytes(subject string, data []byte) []byte {
	b := make([]byte, 0, len(signDomain)+4+len(subject)+len(data))
	b = append(b, signDomain...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(subject))) //nolint:gosec // subjects are far below 4 GiB
	b = append(b, subject...)
	return append(b, data...)
}
