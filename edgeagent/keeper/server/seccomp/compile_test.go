package seccomp

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var everywhere = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM, specs.ArchRISCV64}

// verdictFor runs a program as the kernel would.
func verdictFor(t testing.TB, p Program, audit, number uint32, args [6]uint64) uint32 {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(p.Code))
	for i, c := range p.Code {
		raw[i] = bpf.RawInstruction{Op: c.Code, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	code, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has instructions that are none")
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	// The virtual machine reads words in network order wherever it finds them.
	data := binary.BigEndian.AppendUint32(nil, number)
	data = binary.BigEndian.AppendUint32(data, audit)
	data = append(data, make([]byte, 8)...)
	for _, a := range args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	out, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(out)
}

func holds(c specs.LinuxSeccompArg, args [6]uint64) bool {
	switch a, v := args[c.Index], c.Value; c.Op {
	case specs.OpEqualTo:
		return a == v
	case specs.OpNotEqual:
		return a != v
	case specs.OpGreaterThan:
		return a > v
	case specs.OpGreaterEqual:
		return a >= v
	case specs.OpLessThan:
		return a < v
	case specs.OpLessEqual:
		return a <= v
	default:
		return a&v == c.ValueTwo
	}
}

func act(t testing.TB, a specs.LinuxSeccompAction, errno *uint) uint32 {
	t.Helper()
	out, err := action(a, errno)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wanted is what a profile says about a call, in the plainest way: unconditional rules first, then the others in turn.
func wanted(t testing.TB, p *specs.LinuxSeccomp, name string, args [6]uint64) uint32 {
	t.Helper()
	otherwise := act(t, p.DefaultAction, p.DefaultErrnoRet)
	for _, conditional := range []bool{false, true} {
		for _, s := range p.Syscalls {
			a := act(t, s.Action, s.ErrnoRet)
			fits := !slices.ContainsFunc(s.Args, func(c specs.LinuxSeccompArg) bool { return !holds(c, args) })
			if (len(s.Args) > 0) == conditional && a != otherwise && fits && slices.Contains(s.Names, name) {
				return a
			}
		}
	}
	return otherwise
}

// TestDefault compares the compiled default profile with a plain reading of it, for every call of every architecture.
func TestDefault(t *testing.T) {
	for _, machine := range everywhere {
		p, err := Default([]string{"CAP_SYS_CHROOT"})
		if err != nil {
			t.Fatal(err)
		}
		p.Architectures = nil
		program, err := compileFor(p, machine)
		if err != nil {
			t.Fatal(err)
		}
		if len(program.Code) > 600 {
			t.Errorf("%s: %d instructions", machine, len(program.Code))
		}
		a, _ := abiOf(machine)
		for _, c := range a.calls {
			for _, args := range [][6]uint64{{}, {1, 1, 1}, {unix.AF_VSOCK}, {unix.AF_INET6}, {unix.CLONE_NEWNS, unix.CLONE_NEWNS}, {1 << 40}, {0xffffffff}} {
				want := wanted(t, p, c.name, args)
				got := verdictFor(t, program, a.audit, c.number, args)
				if got != want && got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
					t.Errorf("%s %s(%v): %#x, want %#x", machine, c.name, args, got, want)
				}
			}
		}
	}
}

func TestDefaultSays(t *testing.T) {
	const allow, eperm, enosys = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for _, c := range []struct {
		capability, name string
		args             [6]uint64
		want             uint32
	}{
		{"", "read", [6]uint64{}, allow},
		{"", "mount", [6]uint64{}, eperm},
		{"CAP_SYS_ADMIN", "mount", [6]uint64{}, allow},
		{"", "clone", [6]uint64{unix.CLONE_NEWUSER}, eperm},
		{"", "clone", [6]uint64{unix.CLONE_VM}, allow},
		{"", "clone3", [6]uint64{}, enosys}, // its flags are behind a pointer: programs fall back to clone
		{"", "keyctl", [6]uint64{}, eperm},
		{"", "ptrace", [6]uint64{}, allow}, // since Linux 4.8
		{"", "bpf", [6]uint64{}, eperm},
		{"CAP_BPF", "bpf", [6]uint64{}, allow},
		{"", "socket", [6]uint64{unix.AF_ALG}, eperm},
		{"", "socket", [6]uint64{unix.AF_UNIX}, allow},
		{"", "socket", [6]uint64{unix.AF_VSOCK}, eperm},
		{"", "personality", [6]uint64{1}, eperm},
		{"", "reboot", [6]uint64{}, eperm},
	} {
		p, err := Default([]string{c.capability})
		if err != nil {
			t.Fatal(err)
		}
		program, err := compileFor(p, specs.ArchX86_64)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := abiOf(specs.ArchX86_64)
		n, ok := a.number(c.name)
		if got := verdictFor(t, program, a.audit, n, c.args); !ok || got != c.want {
			t.Errorf("%s(%v) with %q: %#x, want %#x", c.name, c.args, c.capability, got, c.want)
		}
		if got := verdictFor(t, program, a.audit, n|x32Bit, c.args); got != enosys {
			t.Errorf("x32's %s: %#x", c.name, got)
		}
		if got := verdictFor(t, program, a.audit, 5000, c.args); got != enosys {
			t.Errorf("a call of the future: %#x", got)
		}
		if got := verdictFor(t, program, unix.AUDIT_ARCH_PPC64, n, c.args); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("another architecture: %#x", got)
		}
	}
}

// TestConditions compares random profiles with the plain reading of them.
func TestConditions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	values := []uint64{0, 1, 2, 0xffffffff, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)}
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
	}
	pick := func() uint64 { return values[random.IntN(len(values))] }
	names := []string{"read", "write", "close", "openat", "finit_module"}
	for range 300 {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActLog, Architectures: everywhere}
		for range 1 + random.IntN(8) {
			s := specs.LinuxSyscall{Names: names[random.IntN(4):], Action: []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActTrap, specs.ActLog}[random.IntN(4)]}
			for _, index := range random.Perm(6)[:random.IntN(4)] {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(index), Value: pick(), ValueTwo: pick(), Op: ops[random.IntN(len(ops))]})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		program, err := compileFor(p, specs.ArchAARCH64)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			a, _ := abiOf(everywhere[random.IntN(len(everywhere))])
			name := names[random.IntN(len(names))]
			n, _ := a.number(name)
			args := [6]uint64{pick(), pick(), pick(), pick(), pick(), pick()}
			if got, want := verdictFor(t, program, a.audit, n, args), wanted(t, p, name, args); got != want {
				t.Fatalf("%s%v: %#x, want %#x for %+v", name, args, got, want, p)
			}
		}
	}
}

// TestAlternatives: conditions on the same argument are alternatives.
func TestAlternatives(t *testing.T) {
	one := specs.LinuxSeccompArg{Index: 0, Value: 1, Op: specs.OpEqualTo}
	two := specs.LinuxSeccompArg{Index: 0, Value: 2, Op: specs.OpEqualTo}
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read", "nonsense"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{one, two}},
	}}
	program, err := compileFor(p, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[uint64]uint32{1: unix.SECCOMP_RET_ALLOW, 2: unix.SECCOMP_RET_ALLOW, 3: unix.SECCOMP_RET_ERRNO | 1} {
		if got := verdictFor(t, program, unix.AUDIT_ARCH_X86_64, unix.SYS_READ, [6]uint64{value}); got != want {
			t.Errorf("read(%d): %#x, want %#x", value, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, p := range map[string]*specs.LinuxSeccomp{
		"no action": {},
		"notify":    {DefaultAction: specs.ActNotify},
		"listener":  {DefaultAction: specs.ActAllow, ListenerPath: "/x"},
		"flag":      {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}},
		"operator":  {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "x"}}}}},
	} {
		if _, err := Compile(p); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}}
	if _, err := Compile(bad); err == nil {
		t.Error("a seventh argument")
	}
	for _, text := range []string{``, `{}`, `null`, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`} {
		if _, err := Parse([]byte(text), nil); err == nil {
			t.Errorf("%q is no profile", text)
		}
	}
}

func TestProgramEncoding(t *testing.T) {
	p, err := Default(nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Decode(want.Encode()[1:]); err == nil {
		t.Error("half an instruction")
	}
}

// FuzzParse: whatever a profile's file holds, the answer is a program that the kernel could run, or an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_ARM"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64"}],"syscalls":[{"name":"read","action":"SCMP_ACT_KILL","includes":{"caps":["CAP_BPF"],"minKernel":"4.8"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text, []string{"CAP_BPF"})
		if err != nil {
			return
		}
		program, err := Compile(p)
		if err != nil {
			return
		}
		verdictFor(t, program, unix.AUDIT_ARCH_X86_64, unix.SYS_READ, [6]uint64{1})
	})
}

// TestTables: the tables agree with what this program was compiled with, and can be searched.
func TestTables(t *testing.T) {
	for name, want := range map[string]uint32{"read": unix.SYS_READ, "mount": unix.SYS_MOUNT, "clone3": unix.SYS_CLONE3, "openat2": unix.SYS_OPENAT2} {
		a, ok := abiOf(native(runtime.GOARCH))
		if got, found := a.number(name); !ok || !found || got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	for _, machine := range everywhere {
		a, _ := abiOf(machine)
		if !slices.IsSortedFunc(a.calls, func(x, y call) int { return strings.Compare(x.name, y.name) }) {
			t.Errorf("%s is not sorted", machine)
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		p, err := Default(nil)
		if err != nil {
			b.Fatal(err)
		}
		program, err := Compile(p)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(program.Code)), "instructions")
	}
}
