// Package catalog knows the conformance specs of upstream Kubernetes and what Skerry makes of each: it passes, it waits
// for a feature that is still to come, or it tests what Skerry leaves out on purpose.
//
// The list of specs is upstream's own, of the version in go.mod; what is said about them is in exceptions.yaml, and the
// few that every change must pass in focus.txt. docs/conformance.md is written from the two. It runs nothing.
package catalog

import (
	_ "embed" // the two lists
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/kubernetes/test/conformance/testdata"
	"sigs.k8s.io/yaml"
)

//go:embed exceptions.yaml
var exceptionsYAML []byte

//go:embed focus.txt
var focusText string

// Spec is one test of the suite.
type Spec struct {
	Name      string     // as ginkgo prints it, from "[sig-...]" to "[Conformance]"
	Area      string     // the group of people upstream that owns it, such as sig-apps
	Exception *Exception // why it is not run; nil when it is meant to pass
}

// Exception is why some specs are not run.
type Exception struct {
	Reason string   `json:"reason"`
	Specs  []string `json:"specs"` // each a part of the names it means
	Waits  bool     `json:"-"`     // for a feature; otherwise it is left out on purpose
}

// Catalog is every conformance spec in upstream's order.
type Catalog struct {
	Specs  []Spec
	Waits  []Exception // for features that are still to come
	Never  []Exception // what Skerry leaves out
	Record Record      // how the last runs went
}

// New reads the lists. It refuses an exception that means no spec, and a spec that two exceptions mean: both happen when
// upstream's list has changed.
func New() (*Catalog, error) {
	names, err := upstream()
	if err != nil {
		return nil, err
	}
	c := &Catalog{}
	if err := c.readExceptions(); err != nil {
		return nil, err
	}
	if c.Record, err = readRecord(); err != nil {
		return nil, err
	}
	for _, name := range names {
		s := Spec{Name: name, Area: area(name)}
		if s.Exception, err = c.exception(name); err != nil {
			return nil, err
		}
		c.Specs = append(c.Specs, s)
	}
	return c, c.checkUsed()
}

// upstream returns the names in upstream's list, sorted.
func upstream() ([]string, error) {
	const path = "test/conformance/testdata/conformance.yaml"
	data, err := testdata.GetConformanceTestdataFS().ReadTestFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var tests []struct {
		Codename string `json:"codename"`
	}
	if err := yaml.Unmarshal(data, &tests); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	names := make([]string, len(tests))
	for i, t := range tests {
		names[i] = t.Codename
	}
	slices.Sort(names)
	return names, nil
}

var areaPattern = regexp.MustCompile(`^\[(sig-[a-z-]+)\]`)

func area(name string) string {
	m := areaPattern.FindStringSubmatch(name)
	if m == nil {
		return "other"
	}
	return m[1]
}

func (c *Catalog) readExceptions() error {
	var file struct {
		Waits []Exception `json:"waits"`
		Never []Exception `json:"never"`
	}
	if err := yaml.UnmarshalStrict(exceptionsYAML, &file); err != nil {
		return fmt.Errorf("read exceptions.yaml: %w", err)
	}
	c.Waits, c.Never = file.Waits, file.Never
	for i := range c.Waits {
		c.Waits[i].Waits = true
	}
	return nil
}

// exception returns the one that means the spec, nil if none does.
func (c *Catalog) exception(name string) (*Exception, error) {
	var found *Exception
	for _, list := range [][]Exception{c.Waits, c.Never} {
		for i := range list {
			e := &list[i]
			if !e.means(name) {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("exceptions.yaml: %q is meant twice: %q and %q", name, found.Reason, e.Reason)
			}
			found = e
		}
	}
	return found, nil
}

func (e *Exception) means(name string) bool {
	return slices.ContainsFunc(e.Specs, func(part string) bool { return strings.Contains(name, part) })
}

func (c *Catalog) checkUsed() error {
	for _, e := range slices.Concat(c.Waits, c.Never) {
		for _, part := range e.Specs {
			if !slices.ContainsFunc(c.Specs, func(s Spec) bool { return strings.Contains(s.Name, part) }) {
				return fmt.Errorf("exceptions.yaml: no spec has %q in its name", part)
			}
		}
	}
	return nil
}

// Focus returns the specs that every change must pass: fast, and steady on a slow machine.
func (c *Catalog) Focus() ([]Spec, error) {
	var specs []Spec
	for line := range strings.Lines(focusText) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := slices.IndexFunc(c.Specs, func(s Spec) bool { return s.Name == line })
		switch {
		case i < 0:
			return nil, fmt.Errorf("focus.txt: %q is not a conformance spec", line)
		case c.Specs[i].Exception != nil:
			return nil, fmt.Errorf("focus.txt: %q is an exception: %s", line, c.Specs[i].Exception.Reason)
		}
		specs = append(specs, c.Specs[i])
	}
	return specs, nil
}

// Match returns the specs whose names a regular expression finds; an empty one finds all.
func (c *Catalog) Match(expression string) ([]Spec, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("focus: %w", err)
	}
	return slices.Collect(func(yield func(Spec) bool) {
		for _, s := range c.Specs {
			if re.MatchString(s.Name) && !yield(s) {
				return
			}
		}
	}), nil
}
