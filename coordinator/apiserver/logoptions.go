package apiserver

import (
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// logOptions reads the parameters of a log request.
func (c *call) logOptions() (*corev1.PodLogOptions, error) {
	p := params{query: c.query}
	o := &corev1.PodLogOptions{
		Container:                    c.query.Get("container"),
		Follow:                       p.flag("follow"),
		Previous:                     p.flag("previous"),
		Timestamps:                   p.flag("timestamps"),
		InsecureSkipTLSVerifyBackend: p.flag("insecureSkipTLSVerifyBackend"),
		SinceSeconds:                 p.number("sinceSeconds", 1),
		TailLines:                    p.number("tailLines", 0),
		LimitBytes:                   p.number("limitBytes", 1),
		SinceTime:                    p.time("sinceTime"),
	}
	if o.SinceSeconds != nil && o.SinceTime != nil {
		p.errs = append(p.errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	}
	if len(p.errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, c.name, p.errs)
	}
	return o, nil
}

// params parses query parameters and collects what is wrong with them.
type params struct {
	query url.Values
	errs  field.ErrorList
}

func (p *params) flag(name string) bool {
	if !p.query.Has(name) {
		return false
	}
	v := p.query.Get(name)
	on, err := strconv.ParseBool(v)
	if v != "" && err != nil {
		p.errs = append(p.errs, field.Invalid(field.NewPath(name), v, "must be true or false"))
	}
	return on || v == ""
}

func (p *params) number(name string, least int64) *int64 {
	v := p.query.Get(name)
	if v == "" {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least {
		p.errs = append(p.errs, field.Invalid(field.NewPath(name), v, "must be a whole number of at least "+strconv.FormatInt(least, 10)))
		return nil
	}
	return &n
}

func (p *params) time(name string) *metav1.Time {
	v := p.query.Get(name)
	if v == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		p.errs = append(p.errs, field.Invalid(field.NewPath(name), v, "must be a time as in 2006-01-02T15:04:05Z"))
		return nil
	}
	return &metav1.Time{Time: t}
}
