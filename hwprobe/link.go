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
			Name: name, Type: t.linkType(name), MAC: t.text(dir + "address"), MTU: int(t.number(dir + "mtu")),
			Physical: t.exists(dir + "device"), Driver: t.linkName(dir + "device/driver"),
		}
		if speed := t.number(dir + "speed"); speed > 0 { // -1 when the link is down
			l.SpeedMbps = int(speed)
		}
		state := t.text(dir + "operstate")
		l.Up = state == "up" || state == "unknown" && t.text(dir+"carrier") == "1"
		out = append(out, l)
	}
	return out
}

// ARP hardware types, from linux/if_arp.h, that are not ethernet's look-alikes.
var arpTypes = map[string]string{"772": "loopback", "280": "can", "512": "wwan", "519": "wwan", "768": "tunnel", "769": "tunnel", "776": "tunnel", "778": "tunnel", "65534": "tunnel"}

func (t tree) linkType(name string) string {
	dir := "sys/class/net/" + name + "/"
	kind := t.pairs(dir + "uevent")["DEVTYPE"]
	switch {
	case kind == "wlan":
		return "wifi"
	case kind != "":
		return kind
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
	if !t.exists(dir+"device") && t.text(dir+"iflink") != t.text(dir+"ifindex") {
		return "veth"
	}
	return "ethernet"
}
