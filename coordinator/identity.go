package coordinator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/access/token"
	"skerry.dev/skerry/messaging"
)

// identity is what makes this cluster this one: its CA, the key that signs what nodes obey, the key that seals their
// secrets, and the administrator's token. All of it lives below the state folder and is made on the first start.
type identity struct {
	authority *messaging.Authority
	signer    *messaging.Signer
	seal      nkeys.KeyPair
	digestKey []byte
	token     string      // the administrator's bearer token
	accounts  *token.Keys // sign the tokens of ServiceAccounts
}

func openIdentity(stateDir string, now time.Time) (*identity, error) {
	authority, err := messaging.OpenAuthority(filepath.Join(stateDir, "pki"), now)
	if err != nil {
		return nil, err
	}
	keys := filepath.Join(stateDir, "keys")
	signing, err := loadOrMake(filepath.Join(keys, "signing.nk"), messaging.NewSeed)
	if err != nil {
		return nil, err
	}
	signer, err := messaging.NewSigner(signing)
	if err != nil {
		return nil, err
	}
	sealing, err := loadOrMake(filepath.Join(keys, "seal.nk"), newSealSeed)
	if err != nil {
		return nil, err
	}
	seal, err := nkeys.FromCurveSeed(sealing)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	admin, err := loadOrMake(filepath.Join(stateDir, api.AdminTokenFile), newToken)
	if err != nil {
		return nil, err
	}
	accounts, err := openAccountKeys(keys)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, signing)
	mac.Write([]byte("skerry assignment digests"))
	return &identity{authority: authority, signer: signer, seal: seal, digestKey: mac.Sum(nil), token: string(admin), accounts: accounts}, nil
}

// authorities are those whose client certificates are believed.
func (id *identity) authorities() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(id.authority.PEM()) {
		return nil, errors.New("the certificate authority's certificate is unreadable")
	}
	return pool, nil
}

// openAccountKeys loads the keys of ServiceAccounts' tokens. To change the key, rename its file to one of formerAccountKeys
// and start again: tokens that it has signed hold until they expire or the file is removed.
func openAccountKeys(folder string) (*token.Keys, error) {
	signing, err := loadOrMake(filepath.Join(folder, "serviceaccount.pem"), token.NewKey)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(folder, formerAccountKeys))
	if err != nil {
		return nil, err
	}
	var former [][]byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		former = append(former, data)
	}
	return token.NewKeys(signing, former...)
}

const formerAccountKeys = "serviceaccount-*.pem"

func newSealSeed() ([]byte, error) {
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, err
	}
	return pair.Seed()
}

func newToken() ([]byte, error) {
	b := make([]byte, 32)
	rand.Read(b)
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

// loadOrMake reads a secret file, or makes it when there is none. A file that exists but cannot be read is an error: a new
// key in its place would lock every node out.
func loadOrMake(path string, make func() ([]byte, error)) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		if data = []byte(strings.TrimSpace(string(data))); len(data) == 0 {
			return nil, fmt.Errorf("%s is empty: restore it from a backup", path)
		}
		return data, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if data, err = make(); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return data, writeSecret(path, data)
}

// writeSecret writes a file that only its owner reads, whole or not at all.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
