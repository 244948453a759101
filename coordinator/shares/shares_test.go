package shares_test

import (
	"strings"
	"testing"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/shares"
)

func TestSharesAreFair(t *testing.T) {
	places := shares.New("things", 10)
	enter := func(user string, groups ...string) (leave func(), err error) {
		return places.Enter(authn.User{Name: user, Groups: groups})
	}
	var leave func()
	for i := range 5 {
		l, err := enter("greedy")
		if err != nil {
			t.Fatalf("place %d: %v", i, err)
		}
		leave = l
	}
	if _, err := enter("greedy"); err == nil || !strings.Contains(err.Error(), `busy with other things of user "greedy"`) {
		t.Errorf("more than half: %v", err)
	}
	for range 4 {
		_, err := enter("admin", "system:masters")
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := enter("modest")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter("admin", "system:masters"); err == nil {
		t.Error("more than all")
	}
	leave()
	_, err = enter("modest")
	if err != nil {
		t.Fatal(err)
	}
}
