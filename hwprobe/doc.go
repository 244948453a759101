// Package hwprobe finds out what machine it runs on: processors, memory, disks, links, buses, devices, sensors, power, and
// the kernel's features, from /proc, /sys and /etc alone. It turns the result into a node's capacity and labels.
//
// Probe reads a file system and nothing else, so that a captured tree of any board gives the same answer on any machine.
// Host adds what the kernel shows only to system calls. The package starts no program, changes nothing, and never asks a
// device a question that wakes it.
package hwprobe
