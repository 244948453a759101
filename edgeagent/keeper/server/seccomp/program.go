package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Program is a compiled profile. An empty one filters nothing.
type Program struct {
	Flags uint32 // of seccomp(2)
	Code  []unix.SockFilter
}

// instructionBytes is the size of an encoded struct sock_filter.
const instructionBytes = 8

// Encode writes p as bytes for Decode.
func (p Program) Encode() []byte {
	out := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+instructionBytes*len(p.Code)), p.Flags)
	for _, i := range p.Code {
		out = binary.LittleEndian.AppendUint16(out, i.Code)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out
}

// Decode reads what Encode wrote. Whether the code makes sense is for the kernel to say.
func Decode(data []byte) (Program, error) {
	if len(data) < 4 || (len(data)-4)%instructionBytes != 0 || len(data) > 4+instructionBytes*maxInstructions {
		return Program{}, fmt.Errorf("seccomp program of %d bytes", len(data))
	}
	p := Program{Flags: binary.LittleEndian.Uint32(data)}
	for rest := data[4:]; len(rest) > 0; rest = rest[instructionBytes:] {
		p.Code = append(p.Code, unix.SockFilter{
			Code: binary.LittleEndian.Uint16(rest), Jt: rest[2], Jf: rest[3], K: binary.LittleEndian.Uint32(rest[4:]),
		})
	}
	return p, nil
}

// Install filters the calling thread's system calls from now on, and those of everything that it executes. The thread must have
// CAP_SYS_ADMIN in its user namespace or no_new_privs set.
func (p Program) Install() error {
	if len(p.Code) == 0 {
		return errors.New("install seccomp filter: it is empty")
	}
	prog := unix.SockFprog{Len: uint16(len(p.Code)), Filter: &p.Code[0]} //nolint:gosec // at most maxInstructions
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p.Code)
	if errno != 0 {
		return fmt.Errorf("install seccomp filter: %w", os.NewSyscallError("seccomp", errno))
	}
	return nil
}

// Supported says whether the kernel has seccomp filters.
func Supported() bool {
	_, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	return err == nil
}
