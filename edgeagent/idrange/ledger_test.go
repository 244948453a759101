package idrange

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ids")
	l := NewLedger(dir)
	const pods = 50
	taken := make([]Range, pods)
	var group sync.WaitGroup
	for i := range pods {
		group.Go(func() {
			var err error
			if taken[i], err = l.Claim(fmt.Sprint("pod-", i)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := map[Range]bool{}
	for i, r := range taken {
		if seen[r] || r.IsZero() || r.First%Count != 0 || r.First < Lowest || uint64(r.First)+Count > 0x70000000 {
			t.Errorf("pod %d has %+v", i, r)
		}
		seen[r] = true
	}
	again := NewLedger(dir) // an agent that starts anew
	for i := range pods {
		if r, err := again.Claim(fmt.Sprint("pod-", i)); err != nil || r != taken[i] {
			t.Errorf("pod %d has %+v, %v, had %+v", i, r, err, taken[i])
		}
	}
	if err := again.Release("pod-3"); err != nil {
		t.Fatal(err)
	}
	owners, err := l.Owners()
	if err != nil || len(owners) != pods-1 || slices.Contains(owners, "pod-3") {
		t.Errorf("owners: %v, %v", owners, err)
	}
	if r, err := l.Claim("pod-3"); err != nil || r != taken[3] {
		t.Errorf("claimed anew: %+v, %v, want %+v", r, err, taken[3])
	}
	if err := l.Release("nobody"); err != nil {
		t.Errorf("release of nothing: %v", err)
	}
	if _, err := l.Claim("../x"); err == nil {
		t.Error("a path as UID")
	}
}

// TestLedgerMeets: a pod whose range is taken gets the next one, and foreign files do no harm.
func TestLedgerMeets(t *testing.T) {
	l := NewLedger(t.TempDir())
	first, err := l.Claim("pod")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.path(first), l.path(first)+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.path(first), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if second, err := l.Claim("pod"); err != nil || second == first {
		t.Errorf("got %+v, %v", second, err)
	}
}
