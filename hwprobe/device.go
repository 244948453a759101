package hwprobe

import (
	"slices"
	"strings"

	"skerry.dev/skerry/api"
)

// deviceClasses are the character devices that a workload may want, by their folder in /sys/class.
var deviceClasses = []struct{ class, folder, prefix string }{
	{"i2c", "sys/class/i2c-dev", "i2c-"},
	{"spi", "sys/class/spidev", "spidev"},
	{"gpio", "sys/bus/gpio/devices", "gpiochip"},
	{"video", "sys/class/video4linux", "video"},
	{"gpu", "sys/class/drm", "renderD"},
	{"sound", "sys/class/sound", "pcm"},
	{"watchdog", "sys/class/watchdog", "watchdog"},
	{"ipmi", "sys/class/ipmi", "ipmi"},
}

func (t tree) devices() []api.Device {
	out := t.serialPorts()
	for _, c := range deviceClasses {
		for _, name := range t.names(c.folder) {
			if !strings.HasPrefix(name, c.prefix) {
				continue
			}
			dir := c.folder + "/" + name + "/"
			out = append(out, api.Device{Class: c.class, Name: name, Path: t.node(dir, name), USB: t.usbOf(dir), Label: firstText(t, dir+"name", dir+"label", dir+"device/name", dir+"identity")})
		}
	}
	return out
}

// node is the device's path below /dev, which its uevent names when it is not the plain one.
func (t tree) node(dir, name string) string {
	if dev := t.pairs(dir + "uevent")["DEVNAME"]; dev != "" {
		return "/dev/" + strings.TrimPrefix(dev, "/dev/")
	}
	return "/dev/" + name
}

// serialPorts are the terminals with hardware behind them: the 8250 driver also lists ports that are not there, whose
// type is 0.
func (t tree) serialPorts() []api.Device {
	const folder = "sys/class/tty"
	consoles := strings.Fields(t.text(folder + "/console/active"))
	var out []api.Device
	for _, name := range t.names(folder) {
		dir := folder + "/" + name + "/"
		if !t.exists(dir+"device") || t.text(dir+"type") == "0" {
			continue
		}
		out = append(out, api.Device{
			Class: "serial", Name: name, Path: "/dev/" + name, Label: t.linkName(dir + "device/driver"),
			USB: t.usbOf(dir), Console: slices.Contains(consoles, name),
		})
	}
	return out
}
