package rebalance

import (
	"fmt"
	"strings"
)

// String is the report as people read it.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "imbalance %.3f\n", r.Imbalance)
	for _, n := range r.Nodes {
		fmt.Fprintf(&b, "node %s carries %.0f%% (requested %.0f%%%s)%s\n", n.Name, 100*n.Load, 100*n.Requested, inUse(n), apart(n))
	}
	for i, m := range r.Moves {
		fmt.Fprintf(&b, "move %d: %s/%s from %s to %s: gain %.3f, cost %.3f; %s\n", i+1, m.Pod.Namespace, m.Pod.Name, m.From, m.To, m.Gain, m.Cost, m.Reason)
	}
	if len(r.Moves) == 0 {
		b.WriteString("no move is worth its cost\n")
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "%s/%s stays: %s\n", s.Namespace, s.Pod, s.Why)
	}
	if r.Held != "" {
		fmt.Fprintf(&b, "nothing moves now: %s\n", r.Held)
	}
	return b.String()
}

func inUse(n NodeLoad) string {
	if !n.Known {
		return ""
	}
	return fmt.Sprintf(", in use %.0f%%", 100*n.Measured)
}

func apart(n NodeLoad) string {
	if n.Excluded == "" {
		return ""
	}
	return ", takes no part: " + n.Excluded
}
