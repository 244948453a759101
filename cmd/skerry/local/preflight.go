package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/boot/cgroup"
	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/messaging"
)

// Preflight says all that this machine lacks, before anything is made. It tries things out in a network namespace that
// vanishes.
func Preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("nodes need namespaces, mounts and control groups: run as root")
	}
	return errors.Join(checkCgroups(cgroup.Hierarchies()), checkFilesystems(os.ReadFile("/proc/filesystems")), checkNetwork())
}

func checkCgroups(all []cgroup.Hierarchy, err error) error {
	if err != nil {
		return err
	}
	missing := cgroup.Missing(all, "cpu", "memory", "pids")
	switch {
	case len(all) == 0:
		return errors.New("no control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup")
	case len(missing) > 0:
		return fmt.Errorf("the control group controllers %s are missing: enable them on the kernel's command line "+
			"(for memory: cgroup_enable=memory)", strings.Join(missing, ", "))
	}
	return nil
}

func checkFilesystems(known []byte, err error) error {
	if err != nil {
		return err
	}
	for _, name := range []string{"overlay", "tmpfs"} {
		if !slices.Contains(strings.Fields(string(known)), name) {
			return fmt.Errorf("the kernel does not know the file system %s: modprobe %s", name, name)
		}
	}
	return nil
}

func checkNetwork() error {
	return netns.Unshared(unix.CLONE_NEWNET, func() error {
		return errors.Join(tryLink("bridge"), tryLink("veth"), tryRules())
	})
}

func tryLink(kind string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "try"
	var link netlink.Link = &netlink.Bridge{LinkAttrs: attrs}
	if kind == "veth" {
		attrs.Name = "one"
		veth := netlink.NewVeth(attrs)
		veth.PeerName = "other"
		link = veth
	}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("the kernel cannot make a %s link: modprobe %s (%w)", kind, kind, err)
	}
	return nil
}

// tryRules writes one rule of each sort that a node's service proxy uses.
func tryRules() (err error) {
	node := netip.MustParseAddr("192.0.2.1")
	p, err := proxy.New(proxy.Settings{NodeAddress: node, Masquerade: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	err = p.Apply(context.Background(), messaging.ServiceTable{
		ServiceCIDR: "198.51.100.0/24", PodCIDR: "203.0.113.0/24", Services: []messaging.ServicePort{
			{ClusterIP: "198.51.100.1", Port: 1, Protocol: "TCP", Endpoints: []string{"203.0.113.1:1"}},
			{ClusterIP: "198.51.100.1", Port: 1, Protocol: "UDP", Endpoints: []string{"203.0.113.1:1"}, Affinity: true},
		},
	})
	if err != nil {
		return fmt.Errorf("the kernel lacks nftables with NAT, maps, numgen, hash and reject: modprobe nf_tables nft_nat "+
			"nft_chain_nat nft_numgen nft_hash nft_masq nft_reject_ipv4 (%w)", err)
	}
	return nil
}
