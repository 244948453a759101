package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// NoNodes is the message when the cluster has none.
const NoNodes = "no nodes available to schedule pods"

// explain counts the reasons of all nodes, in kube-scheduler's words. Call it only when nothing fits and nothing more
// will be placed.
func (p *placer) explain(c *class) string {
	if c.refusal == "" {
		c.refusal = p.reasons(c)
	}
	return c.refusal
}

func (p *placer) reasons(c *class) string {
	if len(p.nodes) == 0 {
		return NoNodes
	}
	reasons, preemption := map[string]int{}, map[string]int{}
	for _, n := range p.nodes {
		helpful := false
		if reason := c.needs.refuse(n); reason != "" {
			reasons[reason]++
		} else {
			var short []string
			short, helpful = n.shortages(&c.request)
			for _, reason := range short {
				reasons[reason]++
			}
		}
		if helpful {
			preemption["No preemption victims found for incoming pod"]++
		} else {
			preemption["Preemption is not helpful for scheduling"]++
		}
	}
	suffix := histogram(len(p.nodes), preemption)
	if policy := c.pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		suffix = "not eligible due to preemptionPolicy=Never."
	}
	return histogram(len(p.nodes), reasons) + " preemption: " + suffix
}

func histogram(total int, reasons map[string]int) string {
	lines := make([]string, 0, len(reasons))
	for reason, count := range reasons {
		lines = append(lines, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(lines)
	return fmt.Sprintf("0/%d nodes are available: %s.", total, strings.Join(lines, ", "))
}
