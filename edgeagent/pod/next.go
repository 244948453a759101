package pod

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Plan is what Next decided.
type Plan struct {
	Actions []Action         // to begin now, in this order; they may run side by side
	Status  corev1.PodStatus // to report
	Wake    time.Time        // when to call Next again even if nothing happens; zero for never
	Gone    bool             // the pod was told to go and nothing of it is left on the node
}

// Next decides the next steps for a pod. desired must not be nil: for a pod that is no longer wanted pass the last known
// one with Observed.StopSince set.
func Next(desired *corev1.Pod, o Observed, now time.Time) Plan {
	p := planner{pod: desired, obs: o, now: now}
	if p.expired() {
		p.failed, p.message = "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
	}
	if v := o.Ruling; v != nil && !over(o.Previous.Phase) {
		p.failed, p.message = v.Reason, v.Message
	}
	switch {
	case !o.StopSince.IsZero():
		p.remove()
	case p.finished():
		p.finish()
	case o.Paused != "":
		p.stopAll(o.Paused, p.grace())
	default:
		p.run()
	}
	p.plan.Status = p.status()
	return p.plan
}

type planner struct {
	pod     *corev1.Pod
	obs     Observed
	now     time.Time
	plan    Plan
	failed  string // reason why the pod as a whole has failed, whatever its containers say
	message string
}

func (p *planner) do(a Action) { p.plan.Actions = append(p.plan.Actions, a) }

// at asks to be called again at t.
func (p *planner) at(t time.Time) {
	if p.plan.Wake.IsZero() || t.Before(p.plan.Wake) {
		p.plan.Wake = t
	}
}

// due says whether t has come, and asks to be called again when it has not.
func (p *planner) due(t time.Time) bool {
	if !t.After(p.now) {
		return true
	}
	p.at(t)
	return false
}

// expired says whether activeDeadlineSeconds is over.
func (p *planner) expired() bool {
	limit, start := p.pod.Spec.ActiveDeadlineSeconds, p.obs.Previous.StartTime
	if limit == nil || start == nil || over(p.obs.Previous.Phase) {
		return false
	}
	return p.due(start.Add(time.Duration(*limit) * time.Second))
}

func over(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// finished says whether the pod has come to its end by itself. That verdict is never taken back.
func (p *planner) finished() bool {
	return over(p.obs.Previous.Phase) || p.failed != "" || over(p.phase())
}

// grace is how long the pod's containers may take to end.
func (p *planner) grace() time.Duration {
	switch {
	case p.obs.Ruling != nil:
		return p.obs.Ruling.Grace
	case p.pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*p.pod.DeletionGracePeriodSeconds) * time.Second
	case p.pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*p.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	default:
		return corev1.DefaultTerminationGracePeriodSeconds * time.Second
	}
}

// run moves a pod that should run.
func (p *planner) run() {
	p.pullAll()
	volumes := p.stage(&p.obs.Volumes, Action{Verb: PrepareVolumes})
	sandbox := p.stage(&p.obs.Sandbox, Action{Verb: CreateSandbox})
	if !volumes || !sandbox {
		p.watchRunning()
		return
	}
	p.eachEphemeral(p.advance) // somebody looks into the pod, whatever state it is in
	if !p.initialize() {
		return
	}
	for i := range p.pod.Spec.Containers {
		p.advance(&p.pod.Spec.Containers[i])
	}
	if p.workDone() {
		p.stopSidecars("the pod's containers have completed", p.grace())
	}
}

// stage begins a preparation when it is due and says whether it is done.
func (p *planner) stage(s *Stage, a Action) bool {
	if s.State == Todo && p.due(after(s.At, setUpBackOff(s.Fails), p.now)) {
		p.do(a)
	}
	return s.State == Done
}

// initialize runs the init containers in order and says whether the others may start.
func (p *planner) initialize() bool {
	if p.initialized() {
		p.eachSidecar(p.advance)
		return true
	}
	for i := range p.pod.Spec.InitContainers {
		c := &p.pod.Spec.InitContainers[i]
		if p.initDone(c) && !Sidecar(c) {
			continue
		}
		p.advance(c)
		if !p.initDone(c) {
			return false
		}
	}
	return true
}

// initDone says whether the containers behind this init container may start.
func (p *planner) initDone(c *corev1.Container) bool {
	o := p.obs.Containers[c.Name]
	if Sidecar(c) {
		return o.passedStartup(c)
	}
	return o.State == Exited && o.ExitCode == 0
}

// initialized says whether initialisation is behind: all init containers have done their part, or a container after them
// has already run (a sidecar that restarts later does not throw the pod back).
func (p *planner) initialized() bool {
	for i := range p.pod.Spec.Containers {
		if o := p.obs.Containers[p.pod.Spec.Containers[i].Name]; o.Ran {
			return true
		}
	}
	for i := range p.pod.Spec.InitContainers {
		if !p.initDone(&p.pod.Spec.InitContainers[i]) {
			return false
		}
	}
	return true
}

func (p *planner) eachSidecar(f func(*corev1.Container)) {
	for i := range p.pod.Spec.InitContainers {
		if c := &p.pod.Spec.InitContainers[i]; Sidecar(c) {
			f(c)
		}
	}
}

// watchRunning keeps probing what runs although a preparation is missing (a sandbox that is being made again).
func (p *planner) watchRunning() {
	for i := range p.pod.Spec.Containers {
		c := &p.pod.Spec.Containers[i]
		if o := p.obs.Containers[c.Name]; o.State == Running {
			p.watch(c, o)
		}
	}
}

// workDone says whether every regular container has ended for good.
func (p *planner) workDone() bool {
	for i := range p.pod.Spec.Containers {
		c := &p.pod.Spec.Containers[i]
		o := p.obs.Containers[c.Name]
		if o.State != Exited || p.restarts(c, o) {
			return false
		}
	}
	return true
}

// finish cleans up after a pod that came to its end. Records and logs stay until the pod is deleted, unless it was evicted:
// then the node needs the room. A node that is short of it takes the dead containers of the others too.
func (p *planner) finish() {
	reason := "the pod has finished"
	if p.failed != "" {
		reason = p.message
	}
	if !p.stopAll(reason, p.grace()) {
		return
	}
	if evicted := p.reason() == Evicted; evicted || p.obs.Tidy {
		p.removeContainers(evicted)
	}
	p.tearDown()
}

// removeContainers removes the instances that have ended, and their logs if nobody is to read them any more.
func (p *planner) removeContainers(logs bool) {
	for name, o := range p.obs.Containers {
		if o.State == Exited && !o.Removing && p.due(after(o.Create.At, setUpBackOff(o.Create.Fails), p.now)) {
			p.do(Action{Verb: RemoveContainer, Container: name, ID: o.ID, Logs: logs})
		}
	}
	sortActions(p.plan.Actions)
}

// lameDuck is how long a pod that was ready goes on serving after it was told to go. The word takes a moment to every
// node's proxy, and a server that stops listening in that moment would lose requests. It counts towards the grace period.
const lameDuck = 500 * time.Millisecond

// quacks says whether the pod must still be left alone.
func (p *planner) quacks() bool {
	if p.grace() < 4*lameDuck || p.pod.Spec.HostNetwork {
		return false
	}
	for _, c := range p.obs.Previous.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return !p.due(after(p.obs.StopSince, lameDuck, p.now))
		}
	}
	return false
}

// remove takes everything of the pod off the node.
func (p *planner) remove() {
	if p.quacks() {
		return
	}
	if !p.stopAll("the pod is being deleted", p.remaining(p.grace())) {
		return
	}
	p.removeContainers(false)
	p.plan.Gone = p.tearDown() && p.noneLeft()
}

func (p *planner) noneLeft() bool {
	for _, o := range p.obs.Containers {
		if o.State != Absent {
			return false
		}
	}
	return true
}

// tearDown removes sandbox and volumes and says whether both are gone.
func (p *planner) tearDown() bool {
	sandbox := p.unstage(&p.obs.Sandbox, Action{Verb: RemoveSandbox})
	volumes := p.unstage(&p.obs.Volumes, Action{Verb: RemoveVolumes})
	return sandbox && volumes
}

func (p *planner) unstage(s *Stage, a Action) bool {
	if !s.Dirty || s.State == Doing {
		return !s.Dirty
	}
	if p.due(after(s.At, setUpBackOff(s.Fails), p.now)) {
		p.do(a)
	}
	return false
}

// pullAll begins the pulls of all containers that have no instance yet, so that images arrive while the rest is set up.
func (p *planner) pullAll() {
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			if !p.obs.Containers[list[i].Name].Ran {
				p.image(&list[i])
			}
		}
	}
	p.eachEphemeral(func(c *corev1.Container) {
		if !p.obs.Containers[c.Name].Ran {
			p.image(c)
		}
	})
}

// image begins the pull of a container's image when it is due and says whether it is there.
func (p *planner) image(c *corev1.Container) bool {
	i := p.pulled(c)
	if i.State == Todo && p.due(after(i.At, backOff(i.Fails), p.now)) {
		p.doOnce(Action{Verb: PullImage, Container: c.Name, Message: c.Image})
	}
	return i.State == Done
}

// pulled is what is known of the container's image; nothing, once the spec names another.
func (p *planner) pulled(c *corev1.Container) Image {
	if i := p.obs.Images[c.Name]; i.Ref == c.Image {
		return i
	}
	return Image{}
}

func (p *planner) doOnce(a Action) {
	if !slices.Contains(p.plan.Actions, a) {
		p.do(a)
	}
}

func backOffMessage(kind string, d time.Duration, container string, pod *corev1.Pod) string {
	return fmt.Sprintf("back-off %s %s=%s pod=%s_%s(%s)", d, kind, container, pod.Name, pod.Namespace, pod.UID)
}
