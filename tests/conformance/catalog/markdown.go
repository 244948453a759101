package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// head opens docs/conformance.md.
const head = `# Conformance

Skerry runs the conformance suite of upstream Kubernetes, unmodified, against a cluster of real agents and containers:

    make conformance                          # every spec that is meant to pass
    make conformance FOCUS='\[sig-apps\] Job'   # those that a regular expression finds
    go run ./tests/conformance --help
    go run ./tests/conformance record tests/conformance/catalog/record.yaml   # take over what has passed, for this page

Being conformant is not a goal: the suite also tests parts that a small cluster at the edge does without. This page says,
spec by spec, what is left out and what waits for a feature; everything else is meant to pass. It is written from
tests/conformance/catalog by ` + "`go generate ./tests/conformance`" + `.

`

// Markdown writes docs/conformance.md.
func (c *Catalog) Markdown() string {
	var b strings.Builder
	b.WriteString(head)
	c.writeAreas(&b)
	b.WriteString("\n## What has passed\n\n")
	c.Record.write(&b)
	b.WriteString("\n## Waits for a feature\n\n")
	c.writeExceptions(&b, c.Waits)
	b.WriteString("\n## Left out\n\n")
	c.writeExceptions(&b, c.Never)
	return b.String()
}

func (c *Catalog) writeAreas(b *strings.Builder) {
	b.WriteString("| area | specs | meant to pass | wait for a feature | left out |\n| --- | --- | --- | --- | --- |\n")
	var areas []string
	for _, s := range c.Specs {
		areas = append(areas, s.Area)
	}
	slices.Sort(areas)
	for _, a := range slices.Compact(areas) {
		c.writeArea(b, a, func(s Spec) bool { return s.Area == a })
	}
	c.writeArea(b, "**all**", func(Spec) bool { return true })
}

func (c *Catalog) writeArea(b *strings.Builder, name string, is func(Spec) bool) {
	var all, pass, waits, never int
	for _, s := range c.Specs {
		if !is(s) {
			continue
		}
		all++
		switch {
		case s.Exception == nil:
			pass++
		case s.Exception.Waits:
			waits++
		default:
			never++
		}
	}
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d |\n", name, all, pass, waits, never)
}

func (c *Catalog) writeExceptions(b *strings.Builder, list []Exception) {
	if len(list) == 0 {
		b.WriteString("Nothing.\n")
	}
	for i := range list {
		e := &list[i]
		fmt.Fprintf(b, "%s\n\n", e.Reason)
		for _, s := range c.Specs {
			if s.Exception == e {
				fmt.Fprintf(b, "- `%s`\n", s.Name)
			}
		}
		b.WriteString("\n")
	}
}
