package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Observed is what a node knows of one pod. Its owner changes it through Begin, Apply and Exited only.
type Observed struct {
	HostIPs    []string // of the node, the first is the pod's hostIP
	PodIPs     []string // once the sandbox is Done
	Volumes    Stage
	Sandbox    Stage
	Images     map[string]Image     // by container name
	Containers map[string]Container // by container name
	Previous   corev1.PodStatus     // as the last Next returned it: transition times, and the verdict on a finished pod
	StopSince  time.Time            // when the node learnt that the pod must go; zero while it may run
	Paused     string               // why the containers are held stopped for now; empty while they may run
	Ruling     *Ruling              // the node has ended the pod; nil while it has not
	Tidy       bool                 // the node is short of room: what is left of dead containers is to go
}

// Evicted is the reason of a pod that was evicted, or refused, because its node was short of something or it took too much.
const Evicted = "Evicted"

// Ruling is the end of a pod that the node has decided on: it fails for this reason, whatever its containers say.
type Ruling struct {
	Reason, Message string
	Grace           time.Duration // for the containers to stop
	Disrupted       bool          // not for what the pod did: the pod gets the condition DisruptionTarget
}

// StageState is how far a preparation has come.
type StageState int

// The states of a preparation.
const (
	Todo StageState = iota
	Doing
	Done
)

// Stage is one preparation and its last failure.
type Stage struct {
	State   StageState
	Dirty   bool      // something of it may be on the node, however the last attempt ended
	Reason  string    // of the last failure; empty when it did not fail
	Message string    // of the last failure
	Fails   int       // in a row
	At      time.Time // of the last failure
}

// Image is the image of one container.
type Image struct {
	Stage
	Ref string // what was asked for
	ID  string // repository@digest, once Done
}

// ContainerState is where the current instance of a container is.
type ContainerState int

// The states of a container.
const (
	Absent   ContainerState = iota // no instance, or its record was removed
	Starting                       // StartContainer is under way
	Running
	Exited
)

// Container is the current instance of one container of the pod.
type Container struct {
	State    ContainerState
	ID       string
	ImageID  string
	Hash     string // of the spec that it was started with
	Attempt  int32  // restart count of this instance
	Ran      bool   // an instance has existed: the next one is a restart
	Crashes  int    // restarts in a row without a long enough run between
	Create   Stage  // failures to create, before anything ran
	Started  time.Time
	Finished time.Time
	Noticed  time.Time // when it ended by the clock that back-offs run on, which nobody sets
	ExitCode int32
	Signal   int32
	Reason   string // Completed, Error, OOMKilled, StartError ...
	Message  string // termination message
	Lost     bool   // it ended with the node or the keeper, unseen: not its own failure

	Signalled time.Time     // when the stop signal was sent or is being sent; zero when not stopping
	Grace     time.Duration // from Signalled to the kill
	Killed    bool          // SIGKILL was sent
	Removing  bool

	Last   *corev1.ContainerStateTerminated // the instance before
	Probes map[ProbeKind]Probe
}

// Exit is the end of an instance, as the keeper recorded it.
type Exit struct {
	ID       string
	Code     int32
	Signal   int32
	OOM      bool
	At       time.Time
	Message  string // termination message
	Started  time.Time
	Reported string // a reason that is known already, such as StartError
}

// StatusUnknown is the reason of an end that nobody saw.
const StatusUnknown = "ContainerStatusUnknown"

// Begin notes that the caller has begun a.
func (o *Observed) Begin(a Action, now time.Time) {
	switch a.Verb {
	case PrepareVolumes, RemoveVolumes:
		o.Volumes.State, o.Volumes.Dirty = Doing, true
	case CreateSandbox, RemoveSandbox:
		o.Sandbox.State, o.Sandbox.Dirty = Doing, true
	case PullImage:
		o.changeImage(a.Container, func(i *Image) { i.begin(a.Message) })
	default:
		o.change(a.Container, func(c *Container) { c.begin(a, now) })
	}
}

func (i *Image) begin(ref string) {
	if i.Ref != ref {
		*i = Image{Ref: ref}
	}
	i.State = Doing
}

// pulled notes the end of a pull; one of another reference than the last begun says nothing.
func (i *Image) pulled(r Result, now time.Time) {
	if i.Ref != r.Action.Message {
		return
	}
	i.end(r.Err, "ErrImagePull", now)
	i.ID = r.ImageID
}

func (c *Container) begin(a Action, now time.Time) {
	switch a.Verb {
	case StartContainer:
		if c.State == Exited && !c.Lost {
			c.Crashes++
		}
		c.State = Starting
	case SignalContainer:
		c.Signalled, c.Grace = now, a.Grace
	case KillContainer:
		c.Killed = true
	case RemoveContainer:
		c.Removing = true
	case RunProbe:
		c.probe(a.Probe, func(p *Probe) { p.Running, p.Last = true, now })
	default: // the others are not about a container
	}
}

// Apply notes how an action ended. spec is the pod's.
func (o *Observed) Apply(r Result, pod *corev1.Pod, now time.Time) {
	switch r.Action.Verb {
	case PrepareVolumes:
		o.Volumes.end(r.Err, "FailedMount", now)
	case CreateSandbox:
		o.Sandbox.end(r.Err, "FailedCreatePodSandBox", now)
		o.PodIPs = r.IPs
	case RemoveVolumes:
		o.Volumes.undo(r.Err, now)
	case RemoveSandbox:
		o.Sandbox.undo(r.Err, now)
	case PullImage:
		o.changeImage(r.Action.Container, func(i *Image) { i.pulled(r, now) })
	default:
		o.change(r.Action.Container, func(c *Container) { c.apply(r, pod, now) })
	}
}

func (c *Container) apply(r Result, pod *corev1.Pod, now time.Time) {
	switch r.Action.Verb {
	case StartContainer:
		c.started(r, pod, now)
	case SignalContainer:
		c.retry(r, now, func() { c.Signalled = time.Time{} })
	case KillContainer:
		c.retry(r, now, func() { c.Killed = false })
	case RemoveContainer:
		c.Removing = false
		if r.Err == nil {
			c.State = Absent
		}
		c.Create.note(r.Err, "FailedRemove", now)
	case RunProbe:
		if r.Action.ID == c.ID {
			c.probe(r.Action.Probe, func(p *Probe) { p.record(r, probeSpec(pod, r.Action)) })
		}
	default: // the others are not about a container
	}
}

// retry notes a failed signal so that it is sent again after the back-off.
func (c *Container) retry(r Result, now time.Time, undo func()) {
	c.Create.note(r.Err, "FailedKillPod", now)
	if r.Err != nil && r.Action.ID == c.ID {
		undo()
	}
}

func (c *Container) started(r Result, pod *corev1.Pod, now time.Time) {
	var f *Failure
	switch {
	case r.Err == nil:
		c.renew(r, pod)
		c.State, c.Started = Running, r.Started
	case asFailure(r.Err, &f) && f.Started:
		c.renew(r, pod)
		c.State, c.Finished, c.Noticed, c.ExitCode = Exited, now, now, 128
		c.Reason, c.Message = f.Reason, f.Error()
	case c.Ran && !c.Finished.IsZero():
		c.State = Exited
		c.Create.end(r.Err, "CreateContainerError", now)
	default:
		c.State = Absent
		c.Create.end(r.Err, "CreateContainerError", now)
	}
}

// renew turns the record over to a new instance.
func (c *Container) renew(r Result, pod *corev1.Pod) {
	last := c.terminated()
	if !c.Ran || c.Finished.IsZero() {
		last = c.Last
	}
	*c = Container{ID: r.ID, ImageID: r.ImageID, Attempt: r.Action.Attempt, Ran: true, Crashes: c.Crashes, Last: last}
	if spec := Spec(pod, r.Action.Container); spec != nil {
		c.Hash = Hash(spec)
	}
}

// Exited notes that an instance has ended. An exit of an instance that is not the current one changes nothing.
func (o *Observed) Exited(name string, e Exit, now time.Time) {
	o.change(name, func(c *Container) {
		if c.ID != e.ID || c.State == Absent || (c.State == Exited && !c.Finished.IsZero()) {
			return
		}
		c.exited(e, now)
	})
}

func (c *Container) exited(e Exit, now time.Time) {
	c.Noticed = now.Add(-max(0, now.Sub(e.At)))
	c.State, c.Finished, c.ExitCode, c.Signal = Exited, e.At, e.Code, e.Signal
	c.Reason, c.Message, c.Lost = exitReason(e), e.Message, e.Reported == StatusUnknown
	if c.Started.IsZero() {
		c.Started = e.Started
	}
	if e.At.Sub(c.Started) >= crashReset {
		c.Crashes = 0
	}
	c.Signalled, c.Grace, c.Killed, c.Probes, c.Create = time.Time{}, 0, false, nil, Stage{}
}

func exitReason(e Exit) string {
	switch {
	case e.Reported != "":
		return e.Reported
	case e.OOM:
		return "OOMKilled"
	case e.Code == 0:
		return "Completed"
	default:
		return "Error"
	}
}

// Changed notes that the wanted pod is a new version: what could not be done before may work now.
func (o *Observed) Changed() {
	for name := range o.Images {
		o.changeImage(name, func(i *Image) { i.forget() })
	}
	for name := range o.Containers {
		o.change(name, func(c *Container) { c.Create.forget() })
	}
	o.Volumes.forget()
	o.Sandbox.forget()
}

func (o *Observed) change(name string, f func(*Container)) {
	if o.Containers == nil {
		o.Containers = map[string]Container{}
	}
	c := o.Containers[name]
	f(&c)
	o.Containers[name] = c
}

func (o *Observed) changeImage(name string, f func(*Image)) {
	if o.Images == nil {
		o.Images = map[string]Image{}
	}
	i := o.Images[name]
	f(&i)
	o.Images[name] = i
}

// end notes the end of an attempt to do the stage's work.
func (s *Stage) end(err error, reason string, now time.Time) {
	s.State = Done
	if err != nil {
		s.State = Todo
	}
	s.note(err, reason, now)
}

// undo notes the end of an attempt to remove what the stage made.
func (s *Stage) undo(err error, now time.Time) {
	s.State, s.Dirty = Todo, err != nil
	s.note(err, "FailedKillPod", now)
}

func (s *Stage) note(err error, reason string, now time.Time) {
	if err == nil {
		s.Reason, s.Message, s.Fails = "", "", 0
		return
	}
	s.Reason, s.Message, s.At = reasonOf(err, reason), err.Error(), now
	s.Fails++
}

func (s *Stage) forget() {
	if s.State != Doing {
		s.Fails, s.At = 0, time.Time{}
	}
}
