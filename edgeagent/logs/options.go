package logs

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Options is what part of a log is wanted and how.
type Options struct {
	Follow     bool
	Timestamps bool
	Previous   bool
	Tail       int64     // last lines; negative for all
	Since      time.Time // zero for all
	LimitBytes int64     // of output; zero for no limit
	Stream     string    // stdout or stderr; empty for both
}

// Request is a log that someone asks for.
type Request struct {
	UID       string
	Container string
	Options
}

// ParseRequest reads the parameters of an OpenRequest of kind "logs" and reports every fault at once. sinceSeconds counts back
// from now, the node's own clock.
func ParseRequest(params map[string]string, now time.Time) (Request, error) {
	p := parser{params: params}
	r := Request{UID: params["uid"], Container: params["container"], Options: Options{
		Follow: p.flag("follow"), Timestamps: p.flag("timestamps"), Previous: p.flag("previous"),
		Tail: p.number("tailLines", -1), LimitBytes: p.number("limitBytes", 0), Stream: p.stream(),
	}}
	if s := p.number("sinceSeconds", 0); s > 0 {
		r.Since = now.Add(-time.Duration(s) * time.Second)
	}
	if text := params["sinceTime"]; text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		p.note(err)
		r.Since = at
	}
	p.note(checkName("pod uid", r.UID))
	p.note(checkName("container", r.Container))
	return r, errors.Join(p.errs...)
}

type parser struct {
	params map[string]string
	errs   []error
}

func (p *parser) note(err error) {
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

func (p *parser) flag(name string) bool {
	text := p.params[name]
	if text == "" {
		return false
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		p.note(fmt.Errorf("%s is %q, want true or false", name, text))
	}
	return v
}

func (p *parser) number(name string, otherwise int64) int64 {
	text := p.params[name]
	if text == "" {
		return otherwise
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 0 {
		p.note(fmt.Errorf("%s is %q, want a number that is not negative", name, text))
		return otherwise
	}
	return v
}

func (p *parser) stream() string {
	switch s := p.params["stream"]; s {
	case "", "All":
		return ""
	case "Stdout", "stdout":
		return "stdout"
	case "Stderr", "stderr":
		return "stderr"
	default:
		p.note(fmt.Errorf("stream is %q, want All, Stdout or Stderr", s))
		return ""
	}
}

// checkName lets through what can be a UID or a container's name, and no path.
func checkName(what, name string) error {
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return fmt.Errorf("%s %.80q: %s", what, name, faults[0])
	}
	return nil
}
