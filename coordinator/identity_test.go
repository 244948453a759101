package coordinator

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/api"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	first, err := openIdentity(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openIdentity(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := first.signer.PublicKey()
	b, errB := again.signer.PublicKey()
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if a != b || first.token != again.token || first.authority.Hash() != again.authority.Hash() || !bytes.Equal(first.digestKey, again.digestKey) {
		t.Error("the second start made another identity: every node would be locked out")
	}
}

// A secret that cannot be read must never be replaced: the nodes trust the old one.
func TestDamagedSecretIsAnError(t *testing.T) {
	for _, name := range []string{"keys/signing.nk", "keys/seal.nk", api.AdminTokenFile, "pki/ca.crt", "pki/ca.key"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := openIdentity(dir, time.Now()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openIdentity(dir, time.Now()); err == nil {
				t.Error("opened with an empty " + name)
			}
			if data, err := os.ReadFile(path); err != nil || len(data) != 0 {
				t.Errorf("%s was replaced: %q, %v", name, data, err)
			}
		})
	}
}

func TestSecretsAreForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	id, err := openIdentity(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := id.writeKubeconfig(dir, "https://127.0.0.1:6443", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{kubeconfig, filepath.Join(dir, api.AdminTokenFile), filepath.Join(dir, "keys/signing.nk"), filepath.Join(dir, "keys/seal.nk"), filepath.Join(dir, "pki/ca.key")}
	for _, path := range secrets {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %s, %v", strings.Join(left, " "), err)
	}
}
