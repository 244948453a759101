package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"skerry.dev/skerry/tests/cluster"
	"skerry.dev/skerry/tests/conformance/catalog"
	"skerry.dev/skerry/tests/conformance/images"
)

// defaultTimeLimit fits the largest area with eight at a time on two cores.
const defaultTimeLimit = 2 * time.Hour

// options are the command's flags.
type options struct {
	focus, kubeconfig, out            string
	procs, nodes                      int
	again, anyBuild, exceptions, list bool
	timeLimit                         time.Duration
	suiteArgs                         []string
	stdout                            io.Writer
	root                              string // of the repository
}

// settings of the cluster: nobody moves a pod that a spec has just found. Upstream has no rebalancer.
var settings = []string{"SKERRY_NODES_REBALANCE=false"}

func (o *options) run(ctx context.Context) error {
	var err error
	if o.root, err = filepath.Abs("."); err != nil {
		return err
	}
	if o.out, err = filepath.Abs(o.out); err != nil { // the suite runs in its own folder
		return err
	}
	c, err := catalog.New()
	if err != nil {
		return err
	}
	specs, err := c.Match(o.focus)
	if err != nil {
		return err
	}
	if len(specs) == 0 {
		return fmt.Errorf("no conformance spec matches %q; go run ./tests/conformance --list prints all", o.focus)
	}
	build, err := identity(filepath.Join(o.root, "bin"))
	if err != nil {
		return err
	}
	ledger, err := openLedger(filepath.Join(o.cache(), "results.json"))
	if err != nil {
		return err
	}
	chosen := o.choose(specs, ledger, build)
	if o.list {
		return o.print(chosen)
	}
	return o.runAll(ctx, build, ledger, specs, chosen)
}

func (o *options) cache() string { return filepath.Join(o.root, ".cache", "conformance") }

// choose drops what need not run.
func (o *options) choose(specs []catalog.Spec, l *ledger, build string) []catalog.Spec {
	if o.anyBuild {
		build = ""
	}
	var chosen []catalog.Spec
	for _, s := range specs {
		exception := s.Exception != nil && !o.exceptions
		if !exception && (o.again || !l.passed(s.Name, build)) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func (o *options) print(specs []catalog.Spec) error {
	for _, s := range specs {
		if _, err := fmt.Fprintln(o.stdout, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// runAll runs the chosen specs and reports on all.
func (o *options) runAll(ctx context.Context, build string, l *ledger, specs, chosen []catalog.Spec) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	var ran error
	if len(chosen) > 0 {
		ran = o.withCluster(ctx, func(kubeconfig string) error { return o.runAreas(ctx, kubeconfig, build, l, chosen) })
	}
	r := newReport(build, specs, l)
	wrote := r.write(o.out)
	fmt.Fprintf(o.stdout, "%s; see %s\n", r, filepath.Join(o.out, "report.md"))
	if err := errors.Join(ran, wrote); err != nil {
		return err
	}
	if r.Failed+r.NotRun > 0 {
		return fmt.Errorf("%d specs failed, %d did not run", r.Failed, r.NotRun)
	}
	return nil
}

// withCluster starts a cluster unless one was given, fills its registry, and stops it afterwards.
func (o *options) withCluster(ctx context.Context, do func(kubeconfig string) error) (err error) {
	kubeconfig := o.kubeconfig
	if kubeconfig == "" {
		fmt.Fprintf(o.stdout, "starting %d nodes\n", o.nodes)
		c, err := cluster.Start(ctx, cluster.Options{Nodes: o.nodes, Root: o.root, Env: settings})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Stop()) }()
		kubeconfig = c.State0.Kubeconfig
	}
	fmt.Fprintln(o.stdout, "building images")
	if err := pushImages(ctx, o.root, kubeconfig); err != nil {
		return err
	}
	return do(kubeconfig)
}

func pushImages(ctx context.Context, root, kubeconfig string) error {
	source, err := kubernetesSource(ctx, root)
	if err != nil {
		return err
	}
	cache := filepath.Join(root, ".cache", "conformance")
	b := images.Builder{Cache: cache, Bin: cache, Source: source, Skerry: filepath.Join(root, "bin", "skerry")}
	return b.Push(ctx, kubeconfig)
}

// kubernetesSource is where Go keeps the module that the suite is built from.
func kubernetesSource(ctx context.Context, root string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(root, "tests", "conformance", "suite")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the Kubernetes module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// runAreas runs one area after the other and notes what is known of each spec as soon as it has ended.
func (o *options) runAreas(ctx context.Context, kubeconfig, build string, l *ledger, chosen []catalog.Spec) error {
	s := &suite{
		bin: o.cache(), kubectl: filepath.Join(o.root, ".cache", "bin"), kubeconfig: kubeconfig, logs: o.out,
		args: o.suiteArgs, procs: o.procs, timeLimit: o.timeLimit, out: o.stdout,
		note: func(r result) error { return l.add(build, []result{r}) },
	}
	for len(chosen) > 0 {
		area := chosen[0].Area
		n := 1
		for n < len(chosen) && chosen[n].Area == area {
			n++
		}
		fmt.Fprintf(o.stdout, "%s: %d specs\n", area, n)
		results, err := s.run(ctx, area, chosen[:n])
		if err != nil {
			return err
		}
		if err := l.add(build, results); err != nil {
			return err
		}
		chosen = chosen[n:]
	}
	return nil
}

// newPageCommand writes docs/conformance.md.
func newPageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "page FILE", Short: "Write the page that lists the exceptions", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := catalog.New()
			if err != nil {
				return err
			}
			return os.WriteFile(args[0], []byte(c.Markdown()), 0o644)
		},
	}
}
