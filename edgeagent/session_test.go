package edgeagent

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOnlyOurEndOfAPipeDoesNotBlock: a process that gets an end that does not block fails with EAGAIN when it is faster
// than we are; and ours must not hold up a close.
func TestOnlyOurEndOfAPipeDoesNotBlock(t *testing.T) {
	for _, ours := range []int{0, 1} {
		r, w, err := pipe(ours)
		if err != nil {
			t.Fatal(err)
		}
		for i, end := range []*os.File{r, w} {
			if got := isNonblocking(t, end); got != (i == ours) {
				t.Errorf("end %d of a pipe whose end %d is ours: nonblocking %t", i, ours, got)
			}
			if err := end.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// isNonblocking asks without Fd, which would change the answer.
func isNonblocking(t *testing.T, f *os.File) (yes bool) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil {
			t.Error(err)
		}
		yes = flags&unix.O_NONBLOCK != 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return yes
}
