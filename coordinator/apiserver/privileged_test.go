package apiserver_test

import (
	"net/http"
	"testing"
)

func TestPodsMayBePrivileged(t *testing.T) {
	c := start(t)
	c.must(http.MethodPost, "/api/v1/namespaces/default/pods",
		`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"i","securityContext":{"privileged":true}}]}}`)
}
