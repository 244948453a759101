package containerspec

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/volume"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func input(t *testing.T, spec string) Input {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1"}}
	must(t, yaml.UnmarshalStrict([]byte(spec), &p.Spec))
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].Name = "app"
	}
	return Input{
		Pod: p, Container: &p.Spec.Containers[0], Attempt: 2, Rootfs: "/rootfs", LogPath: "/logs/2.log",
		Image: Image{
			ID: "reg/web@sha256:1", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
			Env: []string{"PATH=/bin", "MODE=image"}, WorkingDir: "/srv", StopSignal: "SIGQUIT",
		},
		Env: []string{"MODE=spec", "PORT=80"}, CgroupRoot: "/skerry/n1", MemoryBytes: 1 << 30, PidsLimit: 100,
		Namespaces: keeper.Namespaces{Net: "/ns/net"},
	}
}

func TestBuild(t *testing.T) {
	in := input(t, `
securityContext: {sysctls: [{name: net.core.somaxconn, value: "9"}]}
containers:
- args: ["--port=$(PORT)", "$(NONE)"]
  resources: {requests: {cpu: 250m, memory: 256Mi}, limits: {cpu: 1500m, memory: 512Mi}}
`)
	in.Mounts = []volume.Attachment{
		{Source: "/a", Destination: "/etc/hosts", Propagation: "rprivate"},
		{Source: "/b", Destination: "/etc/hosts", Propagation: "rslave", ReadOnly: true},
	}
	got, err := Build(in)
	must(t, err)
	adj := 750
	want := keeper.Spec{
		ID: "u1-app-2", Rootfs: "/rootfs", Args: []string{"/entry", "--port=80", "$(NONE)"},
		Env: []string{"HOSTNAME=web", "PATH=/bin", "MODE=spec", "PORT=80"}, Cwd: "/srv",
		Namespaces: keeper.Namespaces{Net: "/ns/net"},
		Mounts:     []keeper.Mount{{Source: "/b", Destination: "/etc/hosts", Type: "bind", Options: []string{"rbind", "rslave", "ro"}}},
		Resources: keeper.Resources{
			CPUShares: 256, CPUQuotaMicros: 150_000, CPUPeriodMicros: 100_000, MemoryBytes: 512 << 20, PidsLimit: 100,
		},
		CgroupPath: "/skerry/n1/podu1/u1-app-2", OOMScoreAdj: &adj, LogPath: "/logs/2.log",
		Sysctls: map[string]string{"net.core.somaxconn": "9"},
		Labels: map[string]string{
			LabelUID: "u1", LabelNamespace: "shop", LabelPod: "web", LabelContainer: "app", LabelAttempt: "2",
			LabelHash: got.Labels[LabelHash], LabelImageID: "reg/web@sha256:1", LabelStopSignal: "SIGQUIT",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCommand(t *testing.T) {
	for spec, want := range map[string]string{
		`containers: [{}]`:                           "/entry serve",
		`containers: [{args: [x]}]`:                  "/entry x",
		`containers: [{command: [a, "$(MODE)"]}]`:    "a spec",
		`containers: [{command: [a], args: [b, c]}]`: "a b c",
	} {
		got, err := command(input(t, spec))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", spec, got, err, want)
		}
	}
	in := input(t, `containers: [{}]`)
	in.Image = Image{}
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("no command: %v", err)
	}
}

// TestResources holds the kubelet's own cases (helpers_linux_test.go).
func TestResources(t *testing.T) {
	for spec, want := range map[string]keeper.Resources{
		`{}`:                    {CPUShares: 2},
		`{requests: {cpu: 1m}}`: {CPUShares: 2},
		`{limits: {cpu: 200m}}`: {CPUShares: 204, CPUQuotaMicros: 20_000, CPUPeriodMicros: 100_000},
		`{limits: {cpu: 1m}}`:   {CPUShares: 2, CPUQuotaMicros: 1_000, CPUPeriodMicros: 100_000},
		`{requests: {cpu: "1"}, limits: {cpu: "2"}}`:             {CPUShares: 1024, CPUQuotaMicros: 200_000, CPUPeriodMicros: 100_000},
		`{requests: {cpu: "1000"}, limits: {memory: "8388608"}}`: {CPUShares: 262144, MemoryBytes: 8 << 20},
	} {
		c := &corev1.Container{}
		must(t, yaml.UnmarshalStrict([]byte(spec), &c.Resources))
		if diff := cmp.Diff(want, Resources(c, 0)); diff != "" {
			t.Errorf("%s:\n%s", spec, diff)
		}
	}
}

func TestOOMScoreAdj(t *testing.T) {
	for spec, want := range map[string]int{
		`containers: [{}]`: 1000,
		`containers: [{resources: {requests: {memory: 512Mi}}}]`:                                      500,
		`containers: [{resources: {requests: {memory: 1}}}]`:                                          999,
		`containers: [{resources: {requests: {memory: 1Gi}}}]`:                                        3,
		`containers: [{resources: {limits: {memory: 1Gi, cpu: 1}, requests: {memory: 1Gi, cpu: 1}}}]`: -997,
		`{priorityClassName: system-node-critical, containers: [{}]}`:                                 -997,
	} {
		in := input(t, spec)
		if got := OOMScoreAdj(in.Pod, in.Container, 1<<30); got != want {
			t.Errorf("%s: %d, want %d", spec, got, want)
		}
	}
}

func TestSecurity(t *testing.T) {
	for name, c := range map[string]struct {
		spec  string
		check func(keeper.Spec) bool
	}{
		"default":       {`containers: [{}]`, func(s keeper.Spec) bool { return !s.NoNewPrivs && s.Capabilities == nil && !s.ReadonlyRootfs }},
		"escalation":    {`containers: [{securityContext: {allowPrivilegeEscalation: true}}]`, func(s keeper.Spec) bool { return !s.NoNewPrivs }},
		"no escalation": {`containers: [{securityContext: {allowPrivilegeEscalation: false}}]`, func(s keeper.Spec) bool { return s.NoNewPrivs }},
		"read-only":     {`containers: [{securityContext: {readOnlyRootFilesystem: true}}]`, func(s keeper.Spec) bool { return s.ReadonlyRootfs }},
		"privileged":    {`containers: [{securityContext: {privileged: true}}]`, func(s keeper.Spec) bool { return s.Privileged && !s.NoNewPrivs }},
		"drop all, add": {`containers: [{securityContext: {capabilities: {drop: [ALL], add: [NET_ADMIN]}}}]`, func(s keeper.Spec) bool { return cmp.Equal(s.Capabilities, []string{"CAP_NET_ADMIN"}) }},
		"drop all":      {`containers: [{securityContext: {capabilities: {drop: [all]}}}]`, func(s keeper.Spec) bool { return s.Capabilities != nil && len(s.Capabilities) == 0 }},
		"drop one":      {`containers: [{securityContext: {capabilities: {drop: [CHOWN]}}}]`, func(s keeper.Spec) bool { return len(s.Capabilities) == 13 }},
		"add all":       {`containers: [{securityContext: {capabilities: {add: [ALL]}}}]`, func(s keeper.Spec) bool { return len(s.Capabilities) == 41 }},
		"unconfined":    {`{securityContext: {seccompProfile: {type: Unconfined}}, containers: [{}]}`, func(s keeper.Spec) bool { return s.SeccompProfile == keeper.SeccompUnconfined }},
		"localhost":     {`{securityContext: {seccompProfile: {type: Unconfined}}, containers: [{securityContext: {seccompProfile: {type: Localhost, localhostProfile: site/a.json}}}]}`, func(s keeper.Spec) bool { return s.SeccompProfile == "localhost/site/a.json" }},
		"not asked for": {`containers: [{}]`, func(s keeper.Spec) bool { return s.SeccompProfile == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Build(input(t, c.spec))
			must(t, err)
			if !c.check(s) {
				t.Errorf("got %+v", s)
			}
		})
	}
	for spec, want := range map[string]string{
		`{securityContext: {runAsNonRoot: true}, containers: [{}]}`:                                         "runAsNonRoot and image will run as root",
		`{shareProcessNamespace: true, containers: [{}]}`:                                                   "shareProcessNamespace is not supported",
		`containers: [{securityContext: {seccompProfile: {type: Localhost}}}]`:                              "localhostProfile must be set",
		`containers: [{securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../shadow}}}]`: "seccomp profile",
	} {
		if _, err := Build(input(t, spec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}

func TestLookUpUser(t *testing.T) {
	rootfs := t.TempDir()
	must(t, os.Mkdir(filepath.Join(rootfs, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(rootfs, "etc/passwd"), []byte("root:x:0:0::/:/sh\nweb:x:100:101::/:/sh\nbroken\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(rootfs, "etc/group"), []byte("web:x:101:\nlog:x:7:sys,web\nstaff:x:8:\n"), 0o600))
	for name, c := range map[string]struct {
		spec, image string
		want        keeper.User
		err         string
	}{
		"root":                {`containers: [{}]`, "", keeper.User{}, ""},
		"name":                {`containers: [{}]`, "web", keeper.User{UID: 100, GID: 101, AdditionalGIDs: []uint32{7}}, ""},
		"known number":        {`containers: [{}]`, "100", keeper.User{UID: 100, GID: 101, AdditionalGIDs: []uint32{7}}, ""},
		"unknown number":      {`containers: [{}]`, "4242:8", keeper.User{UID: 4242, GID: 8}, ""},
		"name and group":      {`containers: [{}]`, "web:staff", keeper.User{UID: 100, GID: 8, AdditionalGIDs: []uint32{7}}, ""},
		"pod overrides":       {`{securityContext: {runAsUser: 5, runAsGroup: 6, fsGroup: 9, supplementalGroups: [3, 9]}, containers: [{}]}`, "web", keeper.User{UID: 5, GID: 6, AdditionalGIDs: []uint32{3, 9}}, ""},
		"container overrides": {`{securityContext: {runAsUser: 5}, containers: [{securityContext: {runAsUser: 100}}]}`, "", keeper.User{UID: 100, GID: 101, AdditionalGIDs: []uint32{7}}, ""},
		"no such user":        {`containers: [{}]`, "ghost", keeper.User{}, `user "ghost"`},
		"no such group":       {`containers: [{}]`, "web:ghost", keeper.User{}, `group "ghost"`},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t, c.spec)
			got, err := LookUpUser(in.Pod, in.Container, c.image, rootfs)
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	outside := t.TempDir()
	must(t, os.Symlink("/etc", filepath.Join(outside, "etc")))
	in := input(t, `containers: [{}]`)
	if _, err := LookUpUser(in.Pod, in.Container, "daemon", outside); err == nil {
		t.Error("an image's link led to the node's own users")
	}
	if _, err := LookUpUser(in.Pod, in.Container, "7", t.TempDir()); err != nil {
		t.Errorf("an image without tables: %v", err)
	}
}

func TestSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "int": syscall.SIGINT, "9": syscall.SIGKILL, "SIGRTMIN+3": 37,
		"nonsense": syscall.SIGTERM, "-1": syscall.SIGTERM, "99": syscall.SIGTERM,
	} {
		if got := Signal(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
