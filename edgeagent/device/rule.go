package device

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"skerry.dev/skerry/api"
)

// ResourcePrefix is that of the resources that pods ask for: skerry.dev/<class>.
const ResourcePrefix = "skerry.dev/"

// BuiltIn are the kinds of hardware that have classes of their own without any rule: serial, video, gpio and so on by their
// name, and usb for USB devices that no driver of the kernel has, each as usb-<vendor>-<product>.
var BuiltIn = []string{"serial", "usb", "video", "gpio", "gpu", "i2c", "spi", "sound", "watchdog", "ipmi"}

// DefaultKinds are those of BuiltIn that are offered unless the settings say otherwise: nothing that a machine is run with.
var DefaultKinds = []string{"serial", "usb", "video", "gpio", "gpu"}

// Rule puts the devices that match all its patterns into a class. Patterns are those of path.Match; empty matches anything.
type Rule struct {
	Class string
	// Kind is one of BuiltIn, or file.
	Kind, Path, Label string
	// USB is vendor:product, in four hex digits each, and Serial the USB device's.
	USB, Serial string
}

// ParseRules reads rules as settings have them: a class and patterns, such as "gps usb=1546:01a8 path=/dev/ttyACM*". It
// returns every fault, joined.
func ParseRules(lines []string) ([]Rule, error) {
	var out []Rule
	var errs []error
	for _, line := range lines {
		r, err := parseRule(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", line, err))
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

func parseRule(line string) (r Rule, err error) {
	f := strings.Fields(line)
	if len(f) < 2 {
		return r, errors.New("want a class and at least one pattern, such as gps path=/dev/ttyACM*")
	}
	r.Class = f[0]
	if faults := validation.IsDNS1123Label(r.Class); len(faults) > 0 {
		return r, fmt.Errorf("class %q: %s", r.Class, faults[0])
	}
	fields := map[string]*string{"kind": &r.Kind, "path": &r.Path, "label": &r.Label, "usb": &r.USB, "serial": &r.Serial}
	for _, pair := range f[1:] {
		key, pattern, ok := strings.Cut(pair, "=")
		field := fields[key]
		if !ok || field == nil || pattern == "" {
			return r, fmt.Errorf("%q is none of kind=, path=, label=, usb= and serial= with a pattern", pair)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return r, fmt.Errorf("%s: pattern %q: %w", key, pattern, err)
		}
		*field = pattern
	}
	if r.Path != "" && (!path.IsAbs(r.Path) || path.Clean(r.Path) != r.Path) {
		return r, fmt.Errorf("path %q is not a clean absolute path", r.Path)
	}
	return r, nil
}

// ValidateKinds checks that all are of BuiltIn.
func ValidateKinds(kinds []string) error {
	for _, k := range kinds {
		if !slices.Contains(BuiltIn, k) {
			return fmt.Errorf("%q is not one of %s", k, strings.Join(BuiltIn, ", "))
		}
	}
	return nil
}

// matches says whether the rule is about the device.
func (r Rule) matches(d api.Device, paths []string, usb api.USB) bool {
	id := usb.Vendor + ":" + usb.Product
	return like(r.Kind, d.Class) && slices.ContainsFunc(paths, func(p string) bool { return like(r.Path, p) }) && like(r.Label, d.Label) && like(r.USB, id) && like(r.Serial, usb.Serial)
}

func like(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return pattern == "" || ok && err == nil
}
