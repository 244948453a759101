package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// NoNodes is the message when the cluster has none.
const NoNodes = "no nodes available to schedule pods"

// What preemption can do, in kube-scheduler's words.
const (
	preemptNot   = "Preemption is not helpful for scheduling"
	preemptNone  = "No preemption victims found for incoming pod"
	preemptNever = "not eligible due to preemptionPolicy=Never."
	preemptWaits = "not eligible due to a terminating pod on the nominated node."
)

// explain counts the reasons of all nodes, in kube-scheduler's words. Call it only when nothing fits and nothing more
// will be placed.
func (p *placer) explain(c *class, d *Decision) string {
	if len(p.nodes) == 0 {
		return NoNodes
	}
	if c.refusal == "" {
		p.reasons(c)
	}
	switch {
	case d.Nominated == "":
		return c.refusal + " preemption: " + c.outlook
	case len(d.Victims) == 0:
		return c.refusal + " preemption: " + preemptWaits
	default:
		return fmt.Sprintf("%s preemption: found a potential placement for pod on node %s, preempting %d victims", c.refusal, d.Nominated, len(d.Victims))
	}
}

// reasons fills in the class's refusal and outlook.
func (p *placer) reasons(c *class) {
	if blocked := p.blocked(c); blocked != "" {
		c.refusal = fmt.Sprintf("0/%d nodes are available: %s.", len(p.nodes), blocked)
		c.outlook = histogram(len(p.nodes), map[string]int{preemptNot: len(p.nodes)})
		return
	}
	reasons, preemption := map[string]int{}, map[string]int{}
	for number := range p.nodes {
		why, final := p.refuse(c, number)
		count(reasons, why)
		if final {
			preemption[preemptNot]++
		} else {
			count(preemption, p.unhelped(c, number))
		}
	}
	c.refusal, c.outlook = histogram(len(p.nodes), reasons), histogram(len(p.nodes), preemption)
	if neverPreempts(c.pod) {
		c.outlook = preemptNever
	}
}

func count(reasons map[string]int, why []string) {
	for _, reason := range why {
		reasons[reason]++
	}
}

// refuse returns why the node cannot take a pod of the class now, nothing when it can. Final means that nobody's leaving
// would help.
func (p *placer) refuse(c *class, number int) (why []string, final bool) {
	n := p.nodes[number]
	if reason := c.needs.refuse(n); reason != "" {
		return []string{reason}, true
	}
	if short, elsewise := n.shortages(&c.request); len(short) > 0 {
		return short, !elsewise
	}
	if c.company == nil {
		return nil, false
	}
	reason, final := c.company.refuse(number)
	if reason == "" {
		return nil, false
	}
	return []string{reason}, final
}

// unhelped is why preemption on the node does not help: what still stands against the pod when all less important ones
// have gone.
func (p *placer) unhelped(c *class, number int) []string {
	if p.lowest >= c.priority || math.IsNaN(p.standing(c)[number]) {
		return []string{preemptNone}
	}
	lower := p.lower(number, c.priority)
	if len(lower) == 0 {
		return []string{preemptNone}
	}
	for _, r := range lower {
		p.lift(r, number)
	}
	why, _ := p.refuse(c, number)
	for _, r := range lower {
		p.put(r, number)
	}
	if len(why) == 0 {
		return []string{preemptNone}
	}
	return why
}

func histogram(total int, reasons map[string]int) string {
	lines := make([]string, 0, len(reasons))
	for reason, count := range reasons {
		lines = append(lines, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(lines)
	return fmt.Sprintf("0/%d nodes are available: %s.", total, strings.Join(lines, ", "))
}
