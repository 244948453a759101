package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	config "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

func TestMountOf(t *testing.T) {
	for _, c := range []struct {
		in   keeper.Mount
		want configs.Mount
	}{
		{
			keeper.Mount{Source: "/a", Destination: "/b", Type: "bind", Options: []string{"rbind", "ro", "nosuid", "rprivate"}},
			configs.Mount{Source: "/a", Destination: "/b", Device: "bind", Flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY | unix.MS_NOSUID, PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC}},
		},
		{
			keeper.Mount{Source: "/a", Destination: "/b", Type: "bind", Options: []string{"ro", "rw"}},
			configs.Mount{Source: "/a", Destination: "/b", Device: "bind", Flags: unix.MS_BIND, ClearedFlags: unix.MS_RDONLY},
		},
		{
			keeper.Mount{Source: "tmpfs", Destination: "/t", Type: "tmpfs", Options: []string{"size=1m", "noexec", "mode=700"}},
			configs.Mount{Source: "tmpfs", Destination: "/t", Device: "tmpfs", Flags: unix.MS_NOEXEC, Data: "size=1m,mode=700"},
		},
	} {
		if diff := cmp.Diff(&c.want, mountOf(c.in, "/ns/user")); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestOwnMountReplacesDefault(t *testing.T) {
	spec := &keeper.Spec{Mounts: []keeper.Mount{{Source: "/pod/shm", Destination: "/dev/shm", Type: "bind"}}}
	var found []string
	for _, m := range mountsOf(spec) {
		if m.Destination == "/dev/shm" {
			found = append(found, m.Source)
		}
	}
	if diff := cmp.Diff([]string{"/pod/shm"}, found); diff != "" {
		t.Error(diff)
	}
}

func TestResourcesOf(t *testing.T) {
	pids := int64(9)
	all := keeper.Resources{CPUShares: 512, CPUQuotaMicros: 5000, MemoryBytes: 100, PidsLimit: pids}
	for _, c := range []struct {
		name string
		in   keeper.Resources
		on   machine
		want cgroups.Resources
	}{
		{"nothing", keeper.Resources{}, machine{memorySwap: true}, cgroups.Resources{}},
		{"v1", all, machine{memorySwap: true}, cgroups.Resources{CpuShares: 512, CpuQuota: 5000, CpuPeriod: 100_000, Memory: 100, MemorySwap: 100, PidsLimit: &pids}},
		{"v1 without swap", all, machine{}, cgroups.Resources{CpuShares: 512, CpuQuota: 5000, CpuPeriod: 100_000, Memory: 100, PidsLimit: &pids}},
		{"v2", all, machine{cgroup2: true, memorySwap: true}, cgroups.Resources{
			CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(512), CpuQuota: 5000, CpuPeriod: 100_000, Memory: 100, MemorySwap: 100, PidsLimit: &pids,
			Unified: map[string]string{"memory.oom.group": "1"},
		}},
		{"v2 without memory", keeper.Resources{CPUShares: 512}, machine{cgroup2: true, memorySwap: true}, cgroups.Resources{CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(512)}},
		{"swap allowed", keeper.Resources{MemoryBytes: 100, MemorySwapBytes: 300}, machine{memorySwap: true}, cgroups.Resources{Memory: 100, MemorySwap: 300}},
	} {
		if diff := cmp.Diff(&c.want, resourcesOf(c.in, c.on)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestNamespacesOf(t *testing.T) {
	got := namespacesOf(keeper.Namespaces{Net: "/ns/net", IPC: keeper.Host})
	want := configs.Namespaces{
		{Type: configs.NEWNS}, {Type: configs.NEWCGROUP}, {Type: configs.NEWNET, Path: "/ns/net"}, {Type: configs.NEWUTS}, {Type: configs.NEWPID},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOOMScoreAdjOf(t *testing.T) {
	low, high := -997, 500
	free, bound := machine{capabilities: []string{"CAP_SYS_RESOURCE"}}, machine{oomScoreAdj: 3}
	for _, c := range []struct {
		in, want *int
		on       machine
	}{{nil, nil, bound}, {&low, &low, free}, {&high, &high, bound}, {&low, &bound.oomScoreAdj, bound}} {
		if diff := cmp.Diff(c.want, oomScoreAdjOf(&keeper.Spec{OOMScoreAdj: c.in}, c.on)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, spec := range map[string]*keeper.Spec{
		"capability":  {Capabilities: []string{"CAP_FLY"}},
		"rlimit":      {Rlimits: []keeper.Rlimit{{Name: "RLIMIT_LUCK"}}},
		"device":      {Devices: []keeper.Device{{HostPath: "/etc/passwd"}}},
		"permissions": {Devices: []keeper.Device{{HostPath: "/dev/null", Permissions: "x"}}},
		"no device":   {Devices: []keeper.Device{{HostPath: "/dev/none"}}},
	} {
		if _, err := configOf(spec, machine{}); !errors.Is(err, keeper.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDevice(t *testing.T) {
	nodes, rules, err := devicesOf(&keeper.Spec{Devices: []keeper.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/sensor", Permissions: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	node := nodes[len(nodes)-1]
	want := config.Rule{Type: config.CharDevice, Major: 1, Minor: 5, Permissions: "r", Allow: true}
	if node.Path != "/dev/sensor" || node.Rule != want || *rules[len(rules)-1] != want {
		t.Errorf("got %+v", node)
	}
	only, rules2, err := devicesOf(&keeper.Spec{Devices: []keeper.Device{{HostPath: "/dev/zero", AccessOnly: true, Permissions: "r"}}})
	if err != nil || len(only) != len(nodes)-1 || *rules2[len(rules2)-1] != want {
		t.Errorf("access only: %d nodes, %+v, %v", len(only), rules2[len(rules2)-1], err)
	}
	if first := rules[0]; first.Allow || first.Type != config.WildcardDevice {
		t.Errorf("the first rule must refuse everything: %+v", first)
	}
}

func TestCgroupMounts(t *testing.T) {
	lines := map[string][]string{
		"hybrid": {
			"25 22 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755",
			"26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw",
			"27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
			"28 25 0:25 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory",
			"29 1 0:25 / /elsewhere rw - cgroup cgroup rw,memory",
		},
		"v2": {"26 25 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate", "broken"},
	}
	got := make(map[string]cgroupTree)
	for name, mounts := range lines {
		tree := cgroupTree{v1: make(map[string]string)}
		for _, l := range mounts {
			tree.addMount(l)
		}
		delete(tree.v1, "rw")
		got[name] = tree
	}
	hybrid, v2 := got["hybrid"], got["v2"]
	if hybrid.isV2() || hybrid.unified != "/sys/fs/cgroup/unified" || hybrid.v1["cpuacct"] != "/sys/fs/cgroup/cpu,cpuacct" || len(hybrid.all) != 3 {
		t.Errorf("hybrid: got %+v", hybrid)
	}
	if !v2.isV2() || v2.mainDir("/a") != "/sys/fs/cgroup/a" || len(v2.all) != 1 {
		t.Errorf("v2: got %+v", v2)
	}
}

// TestGauges reads the files of both versions from folders made like cgroups.
func TestGauges(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"v1/cpu/g/cpuacct.usage": "7000\n", "v1/mem/g/memory.usage_in_bytes": "100\n", "v1/mem/g/memory.stat": "cache 1\nrss 2\ntotal_rss 9\ntotal_inactive_file 30\n",
		"v1/pids/g/pids.current": "4\n", "v1/mem/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"v2/g/cpu.stat": "usage_usec 7\nuser_usec 5\n", "v2/g/memory.current": "100\n", "v2/g/memory.stat": "anon 9\ninactive_file 30\n",
		"v2/g/pids.current": "4\n", "v2/g/memory.events": "low 0\noom 3\noom_kill 2\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	v1 := cgroupTree{v1: map[string]string{"cpuacct": dir + "/v1/cpu", "memory": dir + "/v1/mem", "pids": dir + "/v1/pids"}}
	v2 := cgroupTree{v1: map[string]string{}, unified: dir + "/v2"}
	want := keeper.Stats{ID: "c", CPUNanos: 7000, MemoryBytes: 70, RSSBytes: 9, Pids: 4, OOMKills: 2}
	for name, tree := range map[string]cgroupTree{"v1": v1, "v2": v2} {
		g, err := tree.openGauges("/g")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if diff := cmp.Diff(want, g.read("c", make([]byte, statBytes))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		g.close()
		if n := tree.oomKills("/g"); n != 2 {
			t.Errorf("%s: %d oom kills", name, n)
		}
	}
}

func TestUnreadableDeadlineHasPassed(t *testing.T) {
	s := shelf{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := s.readDeadline("c"); got != 0 {
		t.Errorf("none: got %v", got)
	}
	if err := errors.Join(s.writeDeadline("c", 5), os.WriteFile(s.path("c", deadlineFile)+".new", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := s.readDeadline("c"); got != 5 {
		t.Errorf("written: got %v", got)
	}
	if err := os.WriteFile(s.path("c", deadlineFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.readDeadline("c"); got != 1 {
		t.Errorf("unreadable: got %v", got)
	}
}

func TestUnderParent(t *testing.T) {
	for _, bad := range []string{"/skerry", "/skerry/", "/skerryx/a", "/skerry/../a", "/skerry/a/", "skerry/a", "/", ""} {
		if err := underParent(bad, "/skerry"); !errors.Is(err, keeper.ErrInvalid) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	if err := underParent("/skerry/pod/c", "/skerry"); err != nil {
		t.Error(err)
	}
}
