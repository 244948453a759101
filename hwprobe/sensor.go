package hwprobe

import (
	"strings"

	"skerry.dev/skerry/api"
)

// sensorKinds are hwmon channels and thermal zones: the file prefix and what divides its number to give the unit (kernel
// documentation, hwmon/sysfs-interface).
var sensorKinds = []struct {
	prefix, kind string
	divisor      float64
}{
	{"temp", "temperature", 1000}, {"fan", "fan", 1}, {"in", "voltage", 1000}, {"power", "power", 1e6}, {"curr", "current", 1000},
}

func (t tree) sensors() []api.Sensor {
	var out []api.Sensor
	for _, zone := range t.names("sys/class/thermal") {
		dir := "sys/class/thermal/" + zone + "/"
		if value, ok := t.integer(dir + "temp"); ok && strings.HasPrefix(zone, "thermal_zone") {
			out = append(out, api.Sensor{Chip: zone, Name: t.text(dir + "type"), Kind: "temperature", Value: float64(value) / 1000})
		}
	}
	for _, chip := range t.names("sys/class/hwmon") {
		out = append(out, t.hwmon("sys/class/hwmon/"+chip+"/")...)
	}
	return out
}

// hwmon reads the channels of one chip. Meters of a whole machine's power give an average only.
func (t tree) hwmon(dir string) []api.Sensor {
	var out []api.Sensor
	chip := firstText(t, dir+"name", dir+"device/name")
	for _, file := range t.names(strings.TrimSuffix(dir, "/")) {
		channel, ok := strings.CutSuffix(file, "_input")
		if !ok {
			channel, ok = strings.CutSuffix(file, "_average")
			ok = ok && !t.exists(dir+channel+"_input")
		}
		value, readable := t.integer(dir + file)
		if !ok || !readable {
			continue
		}
		for _, k := range sensorKinds {
			if rest, ok := strings.CutPrefix(channel, k.prefix); ok && strings.Trim(rest, "0123456789") == "" {
				name := firstText(t, dir+channel+"_label")
				if name == "" {
					name = channel
				}
				out = append(out, api.Sensor{Chip: chip, Name: name, Kind: k.kind, Value: float64(value) / k.divisor})
			}
		}
	}
	return out
}

func (t tree) supplies() []api.Supply {
	var out []api.Supply
	for _, name := range t.names("sys/class/power_supply") {
		dir := "sys/class/power_supply/" + name + "/"
		s := api.Supply{Name: name, Type: t.text(dir + "type"), Status: t.text(dir + "status")}
		if v := t.text(dir + "online"); v != "" {
			online := v != "0"
			s.Online = &online
		}
		if v := t.count(dir + "capacity"); v <= 100 && t.text(dir+"capacity") != "" {
			s.CapacityPercent = &v
		}
		out = append(out, s)
	}
	return out
}
