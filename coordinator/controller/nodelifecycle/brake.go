package nodelifecycle

import (
	"slices"
	"time"
)

// brake looks for a mass failure: more than half of the nodes, and at least three, fell silent within Window, and the last
// of them less than Window ago. Nodes that are silent then are held one by one, by a condition, each once for Hold.
func (p *planner) brake() {
	var silent []time.Time
	for _, t := range p.fallen {
		if !t.IsZero() {
			silent = append(silent, t)
		}
	}
	need := max(leastNodes, len(p.fallen)/2+1)
	if len(silent) < need {
		return
	}
	slices.SortFunc(silent, time.Time.Compare)
	last := silent[len(silent)-1]
	if last.Sub(silent[len(silent)-need]) <= p.Window && p.now.Sub(last) < p.Window {
		p.massFailure, p.lost = true, len(silent)
	}
}
