package containerspec

import (
	"strings"
	"testing"

	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/keeper"
)

func TestUserNamespace(t *testing.T) {
	for spec, want := range map[string]string{
		`containers: [{}]`:                     "wanted",
		`{hostUsers: true, containers: [{}]}`:  "",
		`{hostUsers: false, containers: [{}]}`: "required",
		`{hostUsers: false, volumes: [{name: a, hostPath: {path: /a}}], containers: [{}]}`:                       "required",
		`{hostNetwork: true, containers: [{}]}`:                                                                  "",
		`{hostPID: true, containers: [{}]}`:                                                                      "",
		`{hostIPC: true, containers: [{}]}`:                                                                      "",
		`{volumes: [{name: a, hostPath: {path: /a}}], containers: [{}]}`:                                         "",
		`{volumes: [{name: a, persistentVolumeClaim: {claimName: a}}], containers: [{}]}`:                        "",
		`{volumes: [{name: a, emptyDir: {}}, {name: b, secret: {}}], containers: [{}]}`:                          "wanted",
		`containers: [{securityContext: {privileged: true}}]`:                                                    "",
		`{initContainers: [{securityContext: {privileged: true}}], containers: [{}]}`:                            "",
		`containers: [{securityContext: {procMount: Unmasked}}]`:                                                 "",
		`containers: [{securityContext: {capabilities: {add: [NET_ADMIN, chown]}}}]`:                             "wanted",
		`containers: [{securityContext: {capabilities: {add: [SYS_TIME]}}}]`:                                     "",
		`containers: [{securityContext: {capabilities: {add: [ALL]}}}]`:                                          "",
		`containers: [{securityContext: {capabilities: {drop: [ALL]}}}]`:                                         "wanted",
		`containers: [{volumeMounts: [{name: a, mountPropagation: Bidirectional}]}]`:                             "",
		`containers: [{resources: {limits: {skerry.dev/serial: 1}}}]`:                                            "",
		`containers: [{resources: {limits: {cpu: 1, memory: 1Mi, ephemeral-storage: 1Mi, hugepages-2Mi: 2Mi}}}]`: "wanted",
		`{securityContext: {runAsUser: 65535, fsGroup: 1000, supplementalGroups: [1]}, containers: [{}]}`:        "wanted",
		`{securityContext: {runAsUser: 65536}, containers: [{}]}`:                                                "",
		`{securityContext: {fsGroup: 100000}, containers: [{}]}`:                                                 "",
		`{securityContext: {supplementalGroups: [100000]}, containers: [{}]}`:                                    "",
		`containers: [{securityContext: {runAsGroup: 100000}}]`:                                                  "",
	} {
		wanted, required := UserNamespace(input(t, spec).Pod)
		got := map[[2]bool]string{{true, false}: "wanted", {true, true}: "required"}[[2]bool{wanted, required}]
		if got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
}

func TestBuildInUserNamespace(t *testing.T) {
	in := input(t, `containers: [{}]`)
	in.IDs, in.Namespaces.User = idrange.Range{First: 1 << 20}, "/ns/user"
	s, err := Build(in)
	must(t, err)
	if s.IDs != (keeper.IDs{First: 1 << 20, Count: 1 << 16}) || s.Namespaces.User != "/ns/user" {
		t.Errorf("got %+v", s)
	}
	in.User.UID = 70000 // of the image
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), "hostUsers") {
		t.Errorf("user 70000: %v", err)
	}
}
