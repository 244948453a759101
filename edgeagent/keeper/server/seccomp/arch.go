package seccomp

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// call is a system call's name and number.
type call struct {
	name   string
	number uint32
}

// abi is one way to call the kernel.
type abi struct {
	audit uint32 // what the kernel tells a filter
	calls []call // sorted by name
	// limit, if not zero, is the number from which on calls belong to another ABI of the same audit number.
	limit uint32
}

// x32Bit marks the calls of x32 on x86-64. Filters that do not know of it can be got around by it.
const x32Bit = 0x40000000

// abiOf returns the ABI of a profile's architecture, false for one that this package does not have. All that it has are little-endian.
func abiOf(a specs.Arch) (abi, bool) {
	switch a {
	case specs.ArchX86_64:
		return abi{audit: unix.AUDIT_ARCH_X86_64, calls: x8664Calls, limit: x32Bit}, true
	case specs.ArchX86:
		return abi{audit: unix.AUDIT_ARCH_I386, calls: x86Calls}, true
	case specs.ArchAARCH64:
		return abi{audit: unix.AUDIT_ARCH_AARCH64, calls: aarch64Calls}, true
	case specs.ArchARM:
		return abi{audit: unix.AUDIT_ARCH_ARM, calls: arm32Calls}, true
	case specs.ArchRISCV64:
		return abi{audit: unix.AUDIT_ARCH_RISCV64, calls: riscvCalls}, true
	default:
		return abi{}, false
	}
}

// native is the architecture that Go calls by that name.
func native(goarch string) specs.Arch {
	switch goarch {
	case "amd64":
		return specs.ArchX86_64
	case "386":
		return specs.ArchX86
	case "arm64":
		return specs.ArchAARCH64
	case "arm":
		return specs.ArchARM
	case "riscv64":
		return specs.ArchRISCV64
	default:
		return ""
	}
}

// number finds a call by its name; false for one that the ABI does not have.
func (a abi) number(name string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(a.calls, name, func(c call, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return 0, false
	}
	return a.calls[i].number, true
}
