package volume

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/edgeagent/resolve"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount tmpfs: run the tests as root, as CI does")
	}
}

func setUp(t *testing.T, spec string) (*Volumes, resolve.Refs) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u1", Labels: map[string]string{"a": "b"}}}
	must(t, yaml.UnmarshalStrict([]byte(spec), &pod.Spec))
	v := New(t.TempDir(), filepath.Join(t.TempDir(), "persistent"), netip.Addr{})
	t.Cleanup(func() { must(t, v.Remove("u1")) })
	return v, resolve.Refs{
		Pod:        pod,
		ConfigMaps: map[string]map[string][]byte{"cm": {"one": []byte("1"), "two": []byte("2")}},
		Secrets:    map[string]map[string][]byte{"s": {"key": []byte("sealed")}},
		Open:       func([]byte) ([]byte, error) { return []byte("opened"), nil },
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func TestPrepare(t *testing.T) {
	needRoot(t)
	v, refs := setUp(t, `
securityContext: {fsGroup: 2000}
volumes:
- {name: scratch, emptyDir: {}}
- {name: ram, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: all, configMap: {name: cm}}
- {name: some, configMap: {name: cm, defaultMode: 0400, items: [{key: one, path: deep/er/uno}]}}
- {name: none, configMap: {name: missing, optional: true}}
- {name: secret, secret: {secretName: s}}
- {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
- name: mixed
  projected: {sources: [{configMap: {name: cm}}, {secret: {name: s}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}
`)
	must(t, v.Prepare(refs))
	must(t, os.WriteFile(filepath.Join(v.dir, "u1/volumes/scratch/kept"), nil, 0o600))
	must(t, v.Prepare(refs))
	base := filepath.Join(v.dir, "u1", "volumes")
	for path, want := range map[string]string{
		"scratch/kept": "", "all/one": "1", "all/two": "2", "some/deep/er/uno": "1", "secret/key": "opened",
		"down/labels": `a="b"`, "mixed/one": "1", "mixed/key": "opened", "mixed/name": "p",
	} {
		if got := read(t, filepath.Join(base, path)); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(base, "some/deep/er/uno"))
	must(t, err)
	if info.Mode().Perm() != 0o440 {
		t.Errorf("mode %v, want 0440", info.Mode().Perm())
	}
	points, err := mountedAt(base)
	must(t, err)
	if diff := cmp.Diff([]string{base + "/secret", base + "/mixed", base + "/ram"}, points); diff != "" {
		t.Errorf("memory mounts:\n%s", diff)
	}
}

func TestContentChangesAtOnce(t *testing.T) {
	v, refs := setUp(t, `volumes: [{name: c, configMap: {name: cm}}]`)
	must(t, v.Prepare(refs))
	dir := filepath.Join(v.dir, "u1/volumes/c")
	open, err := os.Open(filepath.Join(dir, "one"))
	must(t, err)
	defer func() { must(t, open.Close()) }()
	refs.ConfigMaps["cm"] = map[string][]byte{"one": []byte("new"), "three": []byte("3")}
	must(t, v.Prepare(refs))
	if got := read(t, dir+"/one") + read(t, dir+"/three"); got != "new3" {
		t.Errorf("content %q after the change", got)
	}
	if _, err := os.Lstat(dir + "/two"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is gone is still there: %v", err)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 4 { // ..data, its folder, one, three
		t.Errorf("old content stays: %v", entries)
	}
}

func TestPrepareRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		`volumes: [{name: c, configMap: {name: missing}}]`:                                       `MountVolume.SetUp failed for volume "c" : configmap "missing" not found`,
		`volumes: [{name: c, configMap: {name: cm, items: [{key: x, path: x}]}}]`:                `references non-existent key: x`,
		`volumes: [{name: c, configMap: {name: cm, items: [{key: one, path: ../../../etc/x}]}}]`: `leaves the volume`,
		`volumes: [{name: c, configMap: {name: cm, items: [{key: one, path: /etc/x}]}}]`:         `leaves the volume`,
		`volumes: [{name: c, persistentVolumeClaim: {claimName: x}}]`:                            `bound persistentvolumeclaim "x" not found`,
		`volumes: [{name: c, hostPath: {path: /nonexistent/x, type: Directory}}]`:                `does not exist`,
		`volumes: [{name: c, hostPath: {path: /proc/self/exe, type: Socket}}]`:                   `is not a Socket`,
		`volumes: [{name: c, nfs: {server: s, path: /}}]`:                                        `not supported`,
		`volumes: [{name: c, emptyDir: {medium: HugePages}}]`:                                    `not supported`,
		`volumes: [{name: c, secret: {secretName: s}}, {name: d, configMap: {name: missing}}]`:   `volume "d"`,
	} {
		v, refs := setUp(t, spec)
		if err := v.Prepare(refs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	v, refs := setUp(t, ``)
	refs.Pod.UID = "../x"
	if err := v.Prepare(refs); err == nil {
		t.Error("a uid that is a path was taken")
	}
}

func TestSubPath(t *testing.T) {
	needRoot(t)
	v, refs := setUp(t, `
volumes: [{name: data, emptyDir: {}}, {name: c, configMap: {name: cm}}]
containers:
- name: app
  volumeMounts:
  - {name: data, mountPath: /data}
  - {name: data, mountPath: /logs, subPathExpr: "$(POD)/logs"}
  - {name: c, mountPath: /etc/one, subPath: one}
  - {name: data, mountPath: /evil, subPath: link/etc}
`)
	must(t, v.Prepare(refs))
	must(t, os.Symlink("/", filepath.Join(v.dir, "u1/volumes/data/link")))
	c := &refs.Pod.Spec.Containers[0]
	if _, err := v.Attach(refs.Pod, c, []string{"POD=p"}); err == nil || !strings.Contains(err.Error(), "/evil") {
		t.Fatalf("sub-path over a link out of the volume: %v", err)
	}
	c.VolumeMounts = c.VolumeMounts[:3]
	for range 2 { // repeatable
		got, err := v.Attach(refs.Pod, c, []string{"POD=p"})
		must(t, err)
		want := []Attachment{
			{Source: v.dir + "/u1/volumes/data", Destination: "/data", Propagation: "rprivate"},
			{Source: v.dir + "/u1/subpaths/app-1", Destination: "/logs", Propagation: "rprivate"},
			{Source: v.dir + "/u1/subpaths/app-2", Destination: "/etc/one", ReadOnly: true, Propagation: "rprivate"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	info, err := os.Stat(v.dir + "/u1/volumes/data/p/logs")
	must(t, err)
	if info.Mode().Perm() != 0o777 {
		t.Errorf("folder of a sub-path has mode %v, want that of its volume, 0777", info.Mode())
	}
	must(t, os.WriteFile(v.dir+"/u1/subpaths/app-1/x", []byte("written"), 0o600))
	if got := read(t, v.dir+"/u1/volumes/data/p/logs/x"); got != "written" {
		t.Errorf("through the sub-path: %q", got)
	}
	if got := read(t, v.dir+"/u1/subpaths/app-2"); got != "1" {
		t.Errorf("file sub-path: %q", got)
	}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/x", SubPath: "../x"}}
	if _, err := v.Attach(refs.Pod, c, nil); err == nil {
		t.Error("sub-path .. was taken")
	}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/x", SubPathExpr: "$(NONE)"}}
	if _, err := v.Attach(refs.Pod, c, nil); err == nil {
		t.Error("unknown variable was taken")
	}
}

// TestRemoveSpares: nothing behind a mount is removed, and nothing of another pod.
func TestRemoveSpares(t *testing.T) {
	needRoot(t)
	host := t.TempDir()
	must(t, os.WriteFile(host+"/precious", nil, 0o600))
	v, refs := setUp(t, `
volumes: [{name: h, hostPath: {path: `+host+`}}]
containers: [{name: app, volumeMounts: [{name: h, mountPath: /h, subPath: sub}]}]
`)
	must(t, v.Prepare(refs))
	_, err := v.Attach(refs.Pod, &refs.Pod.Spec.Containers[0], nil)
	must(t, err)
	must(t, os.WriteFile(host+"/sub/precious", nil, 0o600))
	must(t, v.Remove("u1"))
	must(t, v.Remove("u1"))
	for _, path := range []string{"/precious", "/sub/precious"} {
		if _, err := os.Stat(host + path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if uids, err := v.Pods(); err != nil || len(uids) != 0 {
		t.Errorf("left: %v, %v", uids, err)
	}
	if err := v.Remove(".."); err == nil {
		t.Error("removed the parent")
	}
}

func TestEtc(t *testing.T) {
	v, refs := setUp(t, `
hostname: shop
subdomain: front
hostAliases: [{ip: 10.0.0.1, hostnames: [db, db.local]}]
dnsConfig: {nameservers: [10.43.0.10], searches: [cluster.local], options: [{name: ndots, value: "5"}]}
`)
	v.resolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(v.resolvConf, []byte("search lan\nnameserver 192.0.2.1\noptions rotate\n"), 0o600))
	must(t, v.Prepare(refs))
	mounts, err := v.Etc(refs.Pod, []string{"10.42.1.5"})
	must(t, err)
	if len(mounts) != 3 || mounts[0].Destination != "/etc/hosts" {
		t.Errorf("mounts %v", mounts)
	}
	hosts := read(t, mounts[0].Source)
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "10.42.1.5\tshop.front.default.svc.cluster.local\tshop\n", "10.0.0.1\tdb\tdb.local\n"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("hosts lacks %q:\n%s", want, hosts)
		}
	}
	want := "search lan cluster.local\nnameserver 192.0.2.1\nnameserver 10.43.0.10\noptions rotate ndots:5\n"
	if got := read(t, mounts[2].Source); got != want {
		t.Errorf("resolv.conf %q, want %q", got, want)
	}
	if got := read(t, mounts[1].Source); got != "shop\n" {
		t.Errorf("hostname %q", got)
	}
}

func TestResolver(t *testing.T) {
	own := "search lan\nnameserver 192.0.2.1\noptions rotate\n"
	cluster := "search default.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 169.254.1.2\noptions ndots:5\n"
	for name, test := range map[string]struct{ spec, want string }{
		"cluster first":           {``, cluster},
		"node's network":          {`hostNetwork: true`, own},
		"node's network, cluster": {`{hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}`, cluster},
		"the node's":              {`dnsPolicy: Default`, own},
		"none": {
			`{dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.9], options: [{name: debug}]}}`,
			"nameserver 192.0.2.9\noptions debug\n",
		},
		"another number of dots": {
			`dnsConfig: {searches: [shop.example], options: [{name: ndots, value: "2"}, {name: edns0}]}`,
			"search default.svc.cluster.local svc.cluster.local cluster.local lan shop.example\nnameserver 169.254.1.2\noptions ndots:2 edns0\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, refs := setUp(t, test.spec)
			v.resolvConf, v.nameServer = filepath.Join(t.TempDir(), "resolv.conf"), netip.MustParseAddr("169.254.1.2")
			must(t, os.WriteFile(v.resolvConf, []byte(own), 0o600))
			got, err := v.resolv(refs.Pod)
			must(t, err)
			if got != test.want {
				t.Errorf("resolv.conf\n%swant\n%s", got, test.want)
			}
		})
	}
}

func TestLastWords(t *testing.T) {
	v, refs := setUp(t, `containers: [{name: app}]`)
	must(t, v.Prepare(refs))
	a, err := v.Termination(refs.Pod, &refs.Pod.Spec.Containers[0], 3)
	must(t, err)
	must(t, os.WriteFile(a.Source, []byte(strings.Repeat("x", 5000)), 0o600))
	got, err := v.LastWords("u1", "app", 3)
	if err != nil || len(got) != maxTermination || a.Destination != "/dev/termination-log" {
		t.Errorf("%d bytes, %v, %+v", len(got), err, a)
	}
	if got, err := v.LastWords("u1", "app", 2); got != "" || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
}

func FuzzBelow(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /a/b\\040c rw,noatime master:1 - ext3 /dev/root rw"), "/a")
	f.Fuzz(func(t *testing.T, info []byte, path string) {
		for _, p := range below(info, path) {
			if !strings.HasPrefix(p, path) {
				t.Errorf("%q is not below %q", p, path)
			}
		}
	})
}
