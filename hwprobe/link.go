package hwprobe

import (
	"skerry.dev/skerry/api"
)

func (t tree) links() []api.Link {
	var out []api.Link
	for _, name := range t.names("sys/class/net") {
		dir := "sys/class/net/" + name + "/"
		if !t.exists(dir + "type") { // bonding_masters and the like
			continue
		}
		l := api.Link{
			Name: name, Type: t.linkType(name), MAC: t.text(dir + "address"), MTU: t.count(dir + "mtu"),
			Physical: t.exists(dir + "device"), Driver: t.linkName(dir + "device/driver"),
		}
		l.SpeedMbps = t.count(dir + "speed") // -1 when the link is down
		state := t.text(dir + "operstate")
		l.Up = state == "up" || state == "unknown" && t.text(dir+"carrier") == "1"
		out = append(out, l)
	}
	return out
}

// arpTypes are the kinds by the hardware type of linux/if_arp.h; 1, ethernet, has too many look-alikes.
var arpTypes = map[string]string{
	"32": "infiniband", "280": "can", "512": "ppp", "519": "wwan", "768": "tunnel", "769": "tunnel", "772": "loopback", "776": "tunnel",
	"778": "tunnel", "804": "ieee802154", "823": "tunnel", "65534": "tunnel",
}

// linkKinds are the kinds by the device type that the driver gives.
var linkKinds = map[string]string{
	"wlan": "wifi", "wwan": "wwan", "bridge": "bridge", "bond": "bond", "team": "bond", "vlan": "vlan", "ppp": "ppp",
	"wireguard": "tunnel", "vxlan": "tunnel", "geneve": "tunnel", "gre": "tunnel", "gretap": "tunnel", "ip6gre": "tunnel", "erspan": "tunnel",
	"macvlan": "virtual", "ipvlan": "virtual", "dummy": "virtual", "ifb": "virtual",
	// dsa is a port of a switch chip, gadget the far end of a USB cable: ethernet to whoever uses them.
}

func (t tree) linkType(name string) string {
	dir := "sys/class/net/" + name + "/"
	if kind, ok := linkKinds[t.pairs(dir + "uevent")["DEVTYPE"]]; ok {
		return kind
	}
	switch {
	case t.exists(dir + "wireless"), t.exists(dir + "phy80211"):
		return "wifi"
	case t.exists(dir + "bridge"):
		return "bridge"
	case t.exists(dir + "bonding"):
		return "bond"
	case t.exists(dir + "tun_flags"):
		return "tunnel"
	}
	if kind, ok := arpTypes[t.text(dir+"type")]; ok {
		return kind
	}
	switch {
	case t.exists(dir + "device"):
		return "ethernet"
	case t.text(dir+"iflink") != t.text(dir+"ifindex"):
		return "veth"
	}
	return "virtual"
}
