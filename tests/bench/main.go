// Command bench measures Skerry beside its peers in one run and writes the figures down. `make bench` builds what it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"skerry.dev/skerry/tests/bench/api"
	"skerry.dev/skerry/tests/bench/footprint"
	"skerry.dev/skerry/tests/bench/place"
	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/bench/start"
)

// sections are the chapters, in order.
var sections = []section.Section{
	start.Section{Keeper: filepath.Join("bin", "skerry-keeper")},
	api.Section{},
	place.Section{},
	footprint.Section{},
}

func main() {
	var o options
	flag.StringVar(&o.write, "write", "", "`file` to write the figures to; none for standard output only")
	flag.StringVar(&o.only, "only", "", "`sections` to run, with commas; all without it")
	flag.BoolVar(&o.quick, "quick", false, "rough figures, soon")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	write, only string
	quick       bool
}

func run(ctx context.Context, o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	intro, err := introduction(o)
	if err != nil {
		return err
	}
	var goals section.Goals
	var parts []string
	for _, s := range chosen {
		fmt.Fprintf(os.Stderr, "measuring: %s\n", s.Name())
		markdown, err := s.Run(ctx, o.quick, &goals)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
		markdown = strings.TrimSpace(markdown) + "\n"
		fmt.Fprintln(os.Stderr, markdown)
		parts = append(parts, markdown)
	}
	fmt.Fprintln(os.Stderr, goals.String())
	page := strings.Join(slices.DeleteFunc(slices.Concat([]string{intro, goals.String()}, parts), func(s string) bool { return s == "" }), "\n")
	if o.write == "" {
		_, err := fmt.Fprint(os.Stdout, page)
		return err
	}
	return os.WriteFile(o.write, []byte(page), 0o644) //nolint:gosec // a page of the documentation
}

// choose finds the sections by name. A page with some of them must not replace the whole one by accident, so names that
// do not exist are refused.
func choose(only string) ([]section.Section, error) {
	if only == "" {
		return sections, nil
	}
	var chosen []section.Section
	for name := range strings.SplitSeq(only, ",") {
		at := slices.IndexFunc(sections, func(s section.Section) bool { return s.Name() == name })
		if at < 0 {
			return nil, errors.New("no section " + name)
		}
		chosen = append(chosen, sections[at])
	}
	return chosen, nil
}
