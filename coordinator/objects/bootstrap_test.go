package objects_test

import "testing"

// A coordinator makes the system objects at each start: the second one must find the first one's good.
func TestBootstrapAtEachStart(t *testing.T) {
	e := newEnv(t)
	if err := e.Bootstrap(t.Context()); err != nil {
		t.Error(err)
	}
}
