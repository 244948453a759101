package audit

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/access"
)

// ParseLevel reads a level of the settings: none, metadata or request.
func ParseLevel(text string) (auditv1.Level, error) {
	for _, l := range []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest} {
		if strings.ToLower(string(l)) == text {
			return l, nil
		}
	}
	return auditv1.LevelNone, fmt.Errorf("audit.level %q is none of none, metadata, request", text)
}

// secretive are resources whose bodies hold secrets, by plural and subresource.
var secretive = []string{"secrets", "configmaps", "serviceaccounts/token", "tokenreviews"}

// LevelOf is how much is kept of a request at most, when the settings say configured. As in upstream's own policy, events
// and reads of what is no resource (health, discovery, the web page) leave no line, and of what may hold secrets no body is
// kept.
func LevelOf(configured auditv1.Level, a access.Attributes) auditv1.Level {
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	switch {
	case configured == auditv1.LevelNone || a.Path != "" && reads(a.Verb) || a.Resource == "events":
		return auditv1.LevelNone
	case a.Path != "" || reads(a.Verb) || slices.Contains(secretive, what):
		return auditv1.LevelMetadata
	}
	return configured
}

// LevelOfAnswer is LevelOf for a request that was answered: what was refused leaves a line whatever it was for.
func LevelOfAnswer(configured auditv1.Level, a access.Attributes, code int32) auditv1.Level {
	level := LevelOf(configured, a)
	if level == auditv1.LevelNone && configured != auditv1.LevelNone && (code == http.StatusUnauthorized || code == http.StatusForbidden) {
		return auditv1.LevelMetadata
	}
	return level
}

func reads(verb string) bool {
	return slices.Contains([]string{"get", "list", "watch", "head", "options"}, verb)
}
