package table

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeUnreachable is the pod status reason that the node lifecycle controller sets.
const nodeUnreachable = "NodeLost"

var podLayout = layout(podCells,
	name,
	text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
	text("Status", "The aggregate status of the containers in this pod."),
	text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
	age,
	wide(text("IP", corev1.PodStatus{}.SwaggerDoc()["podIP"])),
	wide(text("Node", corev1.PodSpec{}.SwaggerDoc()["nodeName"])),
	wide(text("Nominated Node", corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"])),
	wide(text("Readiness Gates", corev1.PodSpec{}.SwaggerDoc()["readinessGates"])),
)

func podCells(pod *corev1.Pod, now time.Time) []any {
	s := summarize(pod)
	return []any{
		pod.Name,
		fmt.Sprintf("%d/%d", s.ready, s.total),
		s.reason,
		s.restartsText(now),
		since(pod.CreationTimestamp, now),
		podIP(pod),
		or(pod.Spec.NodeName, none),
		or(pod.Status.NominatedNodeName, none),
		readinessGates(pod),
	}
}

func podIP(pod *corev1.Pod) string {
	if len(pod.Status.PodIPs) > 0 {
		return or(pod.Status.PodIPs[0].IP, none)
	}
	return or(pod.Status.PodIP, none)
}

func readinessGates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return none
	}
	met := 0
	for _, g := range pod.Spec.ReadinessGates {
		if podCondition(pod, g.ConditionType) {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(pod.Spec.ReadinessGates))
}

func podCondition(pod *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podConditions(pod *corev1.Pod) []metav1.TableRowCondition {
	switch pod.Status.Phase {
	case corev1.PodSucceeded:
		return completed("Succeeded", "The pod has completed successfully.")
	case corev1.PodFailed:
		return completed("Failed", "The pod failed.")
	case corev1.PodPending, corev1.PodRunning, corev1.PodUnknown:
	}
	return nil
}

func completed(reason, message string) []metav1.TableRowCondition {
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: reason, Message: message}}
}

// summary is what a pod's row says about its containers. The rules are those of the Kubernetes API server's printer.
type summary struct {
	reason       string
	ready, total int
	restarts     int
	restarted    metav1.Time // when a container last ended before its restart
}

func summarize(pod *corev1.Pod) summary {
	s := summary{reason: podReason(pod), total: len(pod.Spec.Containers)}
	sidecars := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			s.total++
		}
	}
	initializing := s.addInit(pod, sidecars)
	if !initializing || podCondition(pod, corev1.PodInitialized) {
		s.restarts, s.restarted = 0, metav1.Time{}
		s.addRestartsOf(pod.Status.InitContainerStatuses, sidecars)
		s.addMain(pod)
	}
	s.applyDeletion(pod)
	return s
}

func podReason(pod *corev1.Pod) string {
	reason := or(pod.Status.Reason, string(pod.Status.Phase))
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			reason = corev1.PodReasonSchedulingGated
		}
	}
	return reason
}

// addInit goes through the init containers up to the first that is not done, and reports whether there is one.
func (s *summary) addInit(pod *corev1.Pod, sidecars map[string]bool) bool {
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		s.addRestarts(c)
		if c.State.Terminated != nil && c.State.Terminated.ExitCode == 0 {
			continue
		}
		if sidecars[c.Name] && c.Started != nil && *c.Started {
			if c.Ready {
				s.ready++
			}
			continue
		}
		s.reason = initReason(c, i, len(pod.Spec.InitContainers))
		return true
	}
	return false
}

func initReason(c *corev1.ContainerStatus, i, total int) string {
	switch {
	case c.State.Terminated != nil:
		return "Init:" + endReason(c.State.Terminated)
	case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
		return "Init:" + c.State.Waiting.Reason
	default:
		return fmt.Sprintf("Init:%d/%d", i, total)
	}
}

func endReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", t.ExitCode)
	}
}

// addMain goes through the containers from the last to the first, so that the first one's trouble is what is shown.
func (s *summary) addMain(pod *corev1.Pod) {
	running, failure := false, ""
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		s.addRestarts(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.reason = endReason(c.State.Terminated)
			if c.State.Terminated.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == "Completed" {
		s.reason = mixedReason(running && podCondition(pod, corev1.PodReady), running, failure)
	}
}

// mixedReason is the status of a pod of which some containers have completed and others may not have.
func mixedReason(ready, running bool, failure string) string {
	switch {
	case ready:
		return "Running"
	case failure != "":
		return failure
	case running:
		return "NotReady"
	default:
		return "Completed"
	}
}

func (s *summary) addRestartsOf(list []corev1.ContainerStatus, of map[string]bool) {
	for i := range list {
		if of[list[i].Name] {
			s.addRestarts(&list[i])
		}
	}
}

func (s *summary) addRestarts(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.restarted.Before(&t.FinishedAt) {
		s.restarted = t.FinishedAt
	}
}

func (s *summary) applyDeletion(pod *corev1.Pod) {
	if pod.DeletionTimestamp == nil {
		return
	}
	terminal := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	if pod.Status.Reason == nodeUnreachable {
		s.reason = "Unknown"
	} else if !terminal {
		s.reason = "Terminating"
	}
}

func (s *summary) restartsText(now time.Time) string {
	if s.restarts == 0 || s.restarted.IsZero() {
		return strconv.Itoa(s.restarts)
	}
	return fmt.Sprintf("%d (%s ago)", s.restarts, since(s.restarted, now))
}
