package hwprobe

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"skerry.dev/skerry/api"
)

// TestUSBAndItsPorts: a port knows the device that it is a part of, and a device its node and driver.
func TestUSBAndItsPorts(t *testing.T) {
	board, err := parseBoard(`proc/
sys/bus/usb/devices/1-1/idVendor = 0403
sys/bus/usb/devices/1-1/idProduct = 6001
sys/bus/usb/devices/1-1/bDeviceClass = ff
sys/bus/usb/devices/1-1/busnum = 1
sys/bus/usb/devices/1-1/devnum = 12
sys/bus/usb/devices/1-1:1.0/driver -> ../../../../../../bus/usb/drivers/ftdi_sio
sys/bus/usb/devices/1-2/idVendor = 1a6e
sys/bus/usb/devices/1-2/idProduct = 089a
sys/bus/usb/devices/1-2/bDeviceClass = ff
sys/bus/usb/devices/1-2:1.0/driver -> ../../../../../../bus/usb/drivers/usbfs
sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0/device/driver -> ../../../../bus/usb-serial/drivers/ftdi_sio
sys/devices/platform/serial/tty/ttyS0/device/driver -> ../../../bus/platform/drivers/serial8250
sys/devices/platform/serial/tty/ttyS0/type = 4
sys/class/tty/ttyUSB0 -> ../../devices/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0
sys/class/tty/ttyS0 -> ../../devices/platform/serial/tty/ttyS0
sys/class/tty/console/active = tty0 ttyS0
`)
	if err != nil {
		t.Fatal(err)
	}
	inv := probe(t, board).Inventory
	wantDevices := []api.Device{
		{Class: "serial", Name: "ttyS0", Path: "/dev/ttyS0", Label: "serial8250", Console: true},
		{Class: "serial", Name: "ttyUSB0", Path: "/dev/ttyUSB0", Label: "ftdi_sio", USB: "1-1"},
	}
	if diff := cmp.Diff(wantDevices, inv.Devices); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	wantUSB := []api.USB{
		{Path: "1-1", Class: "ff", ClassName: "vendor-specific", Vendor: "0403", Product: "6001", Node: "/dev/bus/usb/001/012", Driver: "ftdi_sio"},
		{Path: "1-2", Class: "ff", ClassName: "vendor-specific", Vendor: "1a6e", Product: "089a"},
	}
	if diff := cmp.Diff(wantUSB, inv.USB); diff != "" {
		t.Errorf("USB (-want +got):\n%s", diff)
	}
}
