package boot

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestUpgrade: the keeper is asked to replace itself and stays the same process, the agent ends in good order and is started again.
func TestUpgrade(t *testing.T) {
	n := bootNode(t, 0)
	n.lines("view", 1)
	keeper, agent := n.child("keeper", 0), n.child("agent", 0)
	if err := unix.Kill(n.init.Process.Pid, unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.lines("replaced", 1)
	if got := n.lines("ends", 1)[0]; got != "agent" {
		t.Errorf("%s ended", got)
	}
	n.child("agent", agent)
	n.lines("view", 2)
	if got := n.child("keeper", 0); got != keeper {
		t.Errorf("the keeper became %d, was %d", got, keeper)
	}
}
