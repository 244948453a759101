package messaging_test

import (
	"errors"
	"testing"

	"skerry.dev/skerry/messaging"
)

func TestSignature(t *testing.T) {
	signer, public := newSigner(t)
	_, other := newSigner(t)
	signature, err := signer.Sign("$KV.assign.n1.manifest", []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := messaging.Verify(public, "$KV.assign.n1.manifest", []byte("data"), signature); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ key, subject, data, signature string }{
		"other key":      {other, "$KV.assign.n1.manifest", "data", signature},
		"other subject":  {public, "$KV.assign.n2.manifest", "data", signature},
		"other data":     {public, "$KV.assign.n1.manifest", "date", signature},
		"moved boundary": {public, "$KV.assign.n1.manifestd", "ata", signature},
		"no signature":   {public, "$KV.assign.n1.manifest", "data", ""},
		"not base64":     {public, "$KV.assign.n1.manifest", "data", "!" + signature[1:]},
	} {
		if err := messaging.Verify(c.key, c.subject, []byte(c.data), c.signature); !errors.Is(err, messaging.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := messaging.Verify("nonsense", "s", nil, signature); err == nil {
		t.Error("a key that is none verifies")
	}
}

func TestNewSignerRefusesNonsense(t *testing.T) {
	if _, err := messaging.NewSigner([]byte("SU-nonsense")); err == nil {
		t.Fatal("accepted")
	}
}
