package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/tests/conformance/catalog"
)

// newRecordCommand writes what is known of the last runs for docs/conformance.md.
func newRecordCommand() *cobra.Command {
	return &cobra.Command{
		Use: "record FILE", Short: "Write how the last runs went, for docs/conformance.md", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := catalog.New()
			if err != nil {
				return err
			}
			l, err := openLedger(filepath.Join(".cache", "conformance", "results.json"))
			if err != nil {
				return err
			}
			machine, err := describeMachine()
			if err != nil {
				return err
			}
			data, err := yaml.Marshal(newRecord(c, l, machine))
			if err != nil {
				return err
			}
			return os.WriteFile(args[0], append([]byte("# Written by `go run ./tests/conformance record`.\n"), data...), 0o644)
		},
	}
}

// newRecord sums up the ledger: the last result of every spec that is meant to pass.
func newRecord(c *catalog.Catalog, l *ledger, machine string) catalog.Record {
	r := catalog.Record{Machine: machine}
	areas, builds := map[string]*catalog.AreaRecord{}, map[string]map[string]bool{}
	for _, s := range c.Specs {
		if s.Exception != nil {
			continue
		}
		a := areas[s.Area]
		if a == nil {
			a = &catalog.AreaRecord{Area: s.Area}
			areas[s.Area], builds[s.Area] = a, map[string]bool{}
		}
		a.Meant++
		res, ran := l.results[s.Name]
		if res.State != passed {
			r.Open = append(r.Open, catalog.Open{Spec: s.Name, Reason: openReason(res, ran)})
			continue
		}
		a.Passed++
		addDay(a, res.When)
		builds[s.Area][res.Build] = true
	}
	for _, name := range slices.Sorted(maps.Keys(areas)) {
		areas[name].Builds = len(builds[name])
		r.Areas = append(r.Areas, *areas[name])
	}
	return r
}

func addDay(a *catalog.AreaRecord, when time.Time) {
	day := when.UTC().Format(time.DateOnly)
	if a.First == "" || day < a.First {
		a.First = day
	}
	a.Last = max(a.Last, day)
}

// longReason is what fits a line of the page.
const longReason = 200

func openReason(r result, ran bool) string {
	switch text := strings.Join(strings.Fields(r.Reason), " "); {
	case !ran:
		return notRun
	case text == "":
		return r.State
	case len(text) > longReason:
		return strings.ToValidUTF8(text[:longReason], "") + " ..."
	default:
		return text
	}
}

// describeMachine says what matters of this one.
func describeMachine() (string, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", fmt.Errorf("ask for memory: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("ask for the kernel: %w", err)
	}
	memory := info.Totalram * uint64(info.Unit) >> 30
	release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	return fmt.Sprintf("a machine with %d cores and %d GiB, Linux %s, %s, three nodes", runtime.NumCPU(), memory+1, release, runtime.GOARCH), nil
}
