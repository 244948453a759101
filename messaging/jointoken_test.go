package messaging_test

import (
	"errors"
	"strings"
	"testing"

	"skerry.dev/skerry/messaging"
)

func newToken(t testing.TB) messaging.JoinToken {
	t.Helper()
	token, err := messaging.NewJoinToken("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "site-a")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestJoinToken(t *testing.T) {
	token := newToken(t)
	got, err := messaging.ParseJoinToken(" " + token.String() + "\n")
	if err != nil || got != token {
		t.Fatalf("got %+v, error %v, want %+v", got, err, token)
	}
	if again := newToken(t); again.Secret == token.Secret {
		t.Fatal("two tokens have one secret")
	}
}

func TestJoinTokenRefused(t *testing.T) {
	whole := newToken(t).String()
	parts := strings.Split(whole, ".")
	for name, text := range map[string]string{
		"empty":         "",
		"other format":  "skerry2" + whole[len("skerry1"):],
		"cut":           whole[:len(whole)-30],
		"without end":   strings.Join(parts[:3], "."),
		"part too many": whole + ".x",
		"short hash":    "skerry1.abcd." + parts[2] + "." + parts[3],
		"bad name":      "skerry1." + parts[1] + ".Site A." + parts[3],
		"no name":       "skerry1." + parts[1] + ".." + parts[3],
	} {
		if _, err := messaging.ParseJoinToken(text); !errors.Is(err, messaging.ErrJoinToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := messaging.NewJoinToken("nonsense", "a"); err == nil {
		t.Error("token for a hash that is none")
	}
}

func TestSecretMatches(t *testing.T) {
	hash := messaging.HashSecret("secret")
	if !messaging.SecretMatches(hash, "secret") || messaging.SecretMatches(hash, "Secret") || messaging.SecretMatches("", "") {
		t.Fatal("secrets match wrongly")
	}
	if strings.Contains(hash, "secret") || len(hash) != 64 {
		t.Fatalf("hash %q", hash)
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("skerry1...")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := messaging.ParseJoinToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Fatalf("%q parses to %q", text, token.String())
		}
	})
}
