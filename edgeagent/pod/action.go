package pod

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Verb names a step that a node can take for a pod.
type Verb string

// The steps. Each ends in a Result that the caller gives to Observed.Apply.
const (
	PrepareVolumes  Verb = "prepare-volumes"
	CreateSandbox   Verb = "create-sandbox"
	PullImage       Verb = "pull-image"
	StartContainer  Verb = "start-container"  // create and start; removes the instance before it
	SignalContainer Verb = "signal-container" // pre-stop hook, then the stop signal; does not wait for the exit
	KillContainer   Verb = "kill-container"   // SIGKILL to everything in the container
	RemoveContainer Verb = "remove-container"
	RemoveSandbox   Verb = "remove-sandbox"
	RemoveVolumes   Verb = "remove-volumes"
	RunProbe        Verb = "run-probe"
)

// Action is one step. Fields that a verb has no use for are zero.
type Action struct {
	Verb      Verb
	Container string        // name in the pod's spec
	ID        string        // of the instance that is signalled, killed, removed or probed
	Attempt   int32         // StartContainer: restart count of the new instance
	Probe     ProbeKind     // RunProbe
	Grace     time.Duration // SignalContainer: how long until the kill, which bounds the pre-stop hook
	Message   string        // why, for the event and the log
	Logs      bool          // RemoveContainer: the container's logs too
}

// String is the action on one line, for logs and golden files.
func (a Action) String() string {
	var b strings.Builder
	b.WriteString(string(a.Verb))
	if a.Container != "" {
		b.WriteString(" " + a.Container)
	}
	if a.Verb == StartContainer {
		fmt.Fprintf(&b, " attempt=%d", a.Attempt)
	}
	if a.Probe != "" {
		b.WriteString(" " + string(a.Probe))
	}
	if a.Verb == SignalContainer {
		fmt.Fprintf(&b, " grace=%s", a.Grace)
	}
	if a.Logs {
		b.WriteString(" with its logs")
	}
	if a.Message != "" {
		fmt.Fprintf(&b, " (%s)", a.Message)
	}
	return b.String()
}

// Result is how an action ended.
type Result struct {
	Action  Action
	Err     error     // nil when it worked; a *Failure inside names the reason that the status shows
	IPs     []string  // CreateSandbox: the pod's addresses
	ImageID string    // PullImage: repository@digest
	ID      string    // StartContainer: the new instance
	Started time.Time // StartContainer
	Passed  bool      // RunProbe: what the probe said; Err is for a probe that could not be run
	Output  string    // RunProbe: why it did not pass
}

// Failure is an error with the one-word reason that a container's status shows, such as ErrImagePull.
type Failure struct {
	Reason  string
	Started bool // the container was created and its start refused: it counts as an exit
	Err     error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// reasonOf returns the reason that err carries, or otherwise.
func reasonOf(err error, otherwise string) string {
	var f *Failure
	if errors.As(err, &f) && f.Reason != "" {
		return f.Reason
	}
	return otherwise
}
