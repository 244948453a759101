package keeper

import (
	"strings"
	"testing"
)

func valid() Spec {
	return Spec{ID: "c-1", Rootfs: "/r", Args: []string{"/x"}, CgroupPath: "/skerry/c"}
}

func TestValidate(t *testing.T) {
	ok := valid()
	if err := ok.Validate(); err != nil {
		t.Errorf("plain: %v", err)
	}
	thousand := 1001
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string // part of the message
	}{
		{"no ID", func(s *Spec) { s.ID = "" }, "container id"},
		{"parent as ID", func(s *Spec) { s.ID = ".." }, "container id"},
		{"slash in ID", func(s *Spec) { s.ID = "a/b" }, "container id"},
		{"long ID", func(s *Spec) { s.ID = strings.Repeat("a", MaxIDBytes+1) }, "container id"},
		{"relative rootfs", func(s *Spec) { s.Rootfs = "r" }, "rootfs"},
		{"unclean cgroup", func(s *Spec) { s.CgroupPath = "/skerry/../x" }, "cgroup path"},
		{"no args", func(s *Spec) { s.Args = nil }, "args"},
		{"empty command", func(s *Spec) { s.Args = []string{""} }, "args"},
		{"relative cwd", func(s *Spec) { s.Cwd = "x" }, "cwd"},
		{"relative log", func(s *Spec) { s.LogPath = "x" }, "log path"},
		{"relative mount", func(s *Spec) { s.Mounts = []Mount{{Destination: "x"}} }, "mount destination"},
		{"relative device", func(s *Spec) { s.Devices = []Device{{HostPath: "x"}} }, "device path"},
		{"relative namespace", func(s *Spec) { s.Namespaces.Net = "x" }, "namespace path"},
		{"negative memory", func(s *Spec) { s.Resources.MemoryBytes = -1 }, "negative"},
		{"swap below memory", func(s *Spec) { s.Resources.MemoryBytes, s.Resources.MemorySwapBytes = 2, 1 }, "memory+swap"},
		{"tiny log", func(s *Spec) { s.LogMaxBytes = 1 }, "log size"},
		{"many logs", func(s *Spec) { s.LogMaxFiles = 101 }, "log files"},
		{"oom score", func(s *Spec) { s.OOMScoreAdj = &thousand }, "oom score"},
		{"large labels", func(s *Spec) { s.Labels = map[string]string{"a": strings.Repeat("x", MaxLabelBytes)} }, "labels"},
	} {
		s := valid()
		c.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	for _, name := range []string{"mine", "localhost/", "localhost/../x", "localhost//x", "localhost/a/../x"} {
		s := valid()
		s.SeccompProfile = name
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "seccomp profile") {
			t.Errorf("seccomp profile %s: got %v", name, err)
		}
	}
}
