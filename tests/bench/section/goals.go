package section

import (
	"fmt"
	"time"
)

// Goals are what the project wants to reach, with what was measured in one run.
type Goals struct {
	rows   [][]any
	missed int
}

// Add notes a figure beside its goal. share is how much of the goal it is: one and above is reached.
func (g *Goals) Add(name, goal, measured string, share float64) {
	reached := "yes"
	if share < 1 {
		reached = "no"
		g.missed++
	}
	g.rows = append(g.rows, []any{name, goal, measured, fmt.Sprintf("%.2f", share), reached})
}

// Times notes how many times less than another's a figure of ours is, where it is to be goal times less.
func (g *Goals) Times(name string, ours, theirs time.Duration, goal float64) {
	if ours <= 0 {
		ours = 1
	}
	times := float64(theirs) / float64(ours)
	g.Add(name, fmt.Sprintf("%gx less", goal), fmt.Sprintf("%s, %.2fx less than %s", Duration(ours), times, Duration(theirs)), times/goal)
}

// AtMost notes a figure that is to be no more than a bound.
func AtMost[T ~int64 | ~float64](g *Goals, name string, measured, bound T, text func(T) string) {
	g.Add(name, "at most "+text(bound), text(measured), float64(bound)/float64(max(measured, 1)))
}

// AtLeast notes a figure that is to be no less than a bound.
func AtLeast[T ~int64 | ~float64](g *Goals, name string, measured, bound T, text func(T) string) {
	g.Add(name, "at least "+text(bound), text(measured), float64(measured)/float64(bound))
}

// String is a chapter, empty when there are no goals.
func (g *Goals) String() string {
	if len(g.rows) == 0 {
		return ""
	}
	t := NewTable("", "goal", "measured", "share of the goal", "reached")
	for _, row := range g.rows {
		t.Row(row...)
	}
	return fmt.Sprintf("## Goals\n\nReached: %d of %d. A share of one and more is a goal that is reached.\n\n%s", len(g.rows)-g.missed, len(g.rows), t)
}
