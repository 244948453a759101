package e2e

import (
	"strings"
	"testing"
)

const namedServices = `
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: b}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nick}
spec: {type: ExternalName, externalName: svc.NAMESPACE.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: early}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: late}}
---
`

// TestNames: pods find services and each other by name, in short and in full, from every node.
func TestNames(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	member := strings.Replace(pinned("b", "n2"), "nodeSelector", "hostname: first\n  subdomain: peers\n  nodeSelector", 1)
	late := podManifest("late", "hostname: l\nsubdomain: early\nterminationGracePeriodSeconds: 1", "readinessProbe: {httpGet: {path: /never, port: 8080}}")
	s.apply(strings.ReplaceAll(service, "SVC", "svc") + strings.ReplaceAll(namedServices, "NAMESPACE", s.name) + pinned("a", "n1") + member + late)
	a := s.ready("a")
	s.ready("b")
	s.kubectl("label pod b group=svc")
	for _, host := range []string{"svc", "svc." + s.name, "svc." + s.name + ".svc", "svc." + s.name + ".svc.cluster.local", "svc." + s.name + ".svc.cluster.local.", "nick"} {
		s.answers("pod a by "+host, func() (string, error) { return s.try(a, "/fetch?url=http://"+host+"/") }, "first")
	}
	for _, host := range []string{"peers", "first.peers", "first.peers." + s.name + ".svc.cluster.local"} {
		s.answers("pod a by "+host, func() (string, error) { return s.try(a, "/fetch?url=http://"+host+":8080/") }, "first")
	}
	s.answers("pod a by l.early", func() (string, error) { return s.try(a, "/fetch?url=http://l.early:8080/") }, "l")
	if got := s.ask(a, "/fetch?url=http://absent/"); !strings.Contains(got, "no such host") {
		t.Errorf("a name that nobody has: %q", got)
	}
	s.wants(s.kubectl("exec a -- /testimage show /etc/resolv.conf"), "search "+s.name+".svc.cluster.local svc.cluster.local cluster.local", "ndots:5")
	s.kubectl("delete service svc")
	s.poll("svc forgotten", func() (bool, error) {
		got, err := s.try(a, "/fetch?url=http://svc/")
		return strings.Contains(got, "no such host"), err
	})
}
