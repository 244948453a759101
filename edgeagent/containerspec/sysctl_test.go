package containerspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestForbiddenSysctl(t *testing.T) {
	unsafe := []string{"net.core.somaxconn", "kernel/msg*"}
	for _, c := range []struct {
		name             string
		hostNet, hostIPC bool
		want             string
	}{
		{name: "kernel.shm_rmid_forced"},
		{name: "net/ipv4/tcp_syncookies"},
		{name: "net.core.somaxconn"},
		{name: "kernel.msgmax"},
		{name: "kernel.shmmax", want: `forbidden sysctl: "kernel.shmmax" not allowlisted`},
		{name: "vm.swappiness", want: `forbidden sysctl: "vm.swappiness" not allowlisted`},
		{name: "net.ipv4.tcp_syncookies", hostNet: true, want: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		{name: "net.core.somaxconn", hostNet: true, want: `forbidden sysctl: "net.core.somaxconn" not allowed with host Net enabled`},
		{name: "kernel.msgmax", hostIPC: true, want: `forbidden sysctl: "kernel.msgmax" not allowed with host IPC enabled`},
		{name: "kernel.msgmax", hostNet: true},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{
			HostNetwork: c.hostNet, HostIPC: c.hostIPC,
			SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ping_group_range"}, {Name: c.name}}},
		}}
		if c.hostNet {
			p.Spec.SecurityContext.Sysctls = p.Spec.SecurityContext.Sysctls[1:]
		}
		if got := ForbiddenSysctl(p, unsafe); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if why := ForbiddenSysctl(&corev1.Pod{}, nil); why != "" {
		t.Error(why)
	}
}

func TestSysctlName(t *testing.T) {
	for in, want := range map[string]string{
		"net.ipv4.conf.eth0/100.rp_filter": "net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter": "net.ipv4.conf.eth0/100.rp_filter", "x": "x", "": "",
	} {
		if got := sysctlName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestValidateUnsafeSysctls(t *testing.T) {
	for text, ok := range map[string]bool{"net.core.*": true, "kernel.shm*": true, "fs.mqueue.msg_max": true, "vm.*": false, "*": false, "kernel.*": false} {
		if err := ValidateUnsafeSysctls([]string{text}); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
