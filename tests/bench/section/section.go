// Package section is what a part of the benchmarks is, and how its figures are put into words and tables.
package section

import "context"

// Section measures one thing beside its peers.
type Section interface {
	// Name selects the section on the command line.
	Name() string
	// Run measures and returns a chapter of Markdown that starts with a heading of level two. Quick asks for figures
	// that are rough but there within a minute. What the project has set itself as a goal is also noted in goals.
	Run(ctx context.Context, quick bool, goals *Goals) (markdown string, err error)
}
