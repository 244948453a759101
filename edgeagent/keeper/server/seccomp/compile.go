package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrUnsupported means that a profile asks for something that this package does not do.
var ErrUnsupported = errors.New("not supported")

// maxInstructions is the kernel's BPF_MAXINSNS.
const maxInstructions = 4096

// Compile translates a profile for this machine. Calls whose names are unknown are left out, as newer profiles name calls that older
// kernels do not have; calls newer than all that the profile names fail with ENOSYS, so that programs fall back to older ones.
func Compile(p *specs.LinuxSeccomp) (Program, error) { return compileFor(p, native(runtime.GOARCH)) }

func compileFor(p *specs.LinuxSeccomp, machine specs.Arch) (Program, error) {
	flags, err := flagsOf(p)
	if err != nil {
		return Program{}, err
	}
	otherwise, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return Program{}, fmt.Errorf("defaultAction: %w", err)
	}
	code := []unix.SockFilter{load(offsetArch)}
	for _, a := range architectures(p, machine) {
		section, err := sectionOf(p, a, otherwise)
		if err != nil {
			return Program{}, err
		}
		code = append(code, jump(unix.BPF_JEQ, a.audit, 1, 0), skip(len(section)))
		code = append(code, section...)
	}
	code = append(code, ret(unix.SECCOMP_RET_KILL_PROCESS)) // an architecture that the profile does not name
	if len(code) > maxInstructions {
		return Program{}, fmt.Errorf("%d instructions, the kernel takes at most %d", len(code), maxInstructions)
	}
	return Program{Flags: flags, Code: code}, nil
}

// architectures are the machine's own and those that the profile names, as far as we have them. One that is missing is one whose
// programs are killed.
func architectures(p *specs.LinuxSeccomp, machine specs.Arch) []abi {
	var out []abi
	for _, name := range append([]specs.Arch{machine}, p.Architectures...) {
		a, ok := abiOf(name)
		if ok && !slices.ContainsFunc(out, func(b abi) bool { return b.audit == a.audit }) {
			out = append(out, a)
		}
	}
	return out
}

func flagsOf(p *specs.LinuxSeccomp) (uint32, error) {
	if p.ListenerPath != "" {
		return 0, fmt.Errorf("listenerPath: %w", ErrUnsupported)
	}
	if p.Flags == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil // as runc does
	}
	var flags uint32
	for _, f := range p.Flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // there is but one thread that lives on
		default:
			return 0, fmt.Errorf("flag %q: %w", f, ErrUnsupported)
		}
	}
	return flags, nil
}

// action is what the kernel is to do, in its own encoding.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = uint32(*errno) & unix.SECCOMP_RET_DATA //nolint:gosec // the mask bounds it
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	default:
		return 0, fmt.Errorf("action %q: %w", a, ErrUnsupported)
	}
}

// rule is what happens to a call whose arguments fulfil all conditions.
type rule struct {
	conditions []specs.LinuxSeccompArg
	action     uint32
}

// verdict is what happens to one call: the first rule that fits, or otherwise.
type verdict struct {
	rules     []rule
	otherwise uint32
}

// plain is a verdict that needs no look at the arguments.
func (v verdict) plain() bool { return len(v.rules) == 0 }

// segment gives the calls from first on, up to the next segment, one verdict.
type segment struct {
	first   uint32
	verdict verdict
}

// sectionOf is the part of the program for one ABI.
func sectionOf(p *specs.LinuxSeccomp, a abi, otherwise uint32) ([]unix.SockFilter, error) {
	verdicts, last, err := verdictsOf(p, a, otherwise)
	if err != nil {
		return nil, err
	}
	code, err := tree(segmentsOf(verdicts, last, a, otherwise))
	return append([]unix.SockFilter{load(offsetNumber)}, code...), err
}

// verdictsOf collects what the profile says about each call, and the highest number that it names. An unconditional rule beats all
// others for its call, and the first of several wins, as in libseccomp. Rules that say what is the default anyway are left out, as in runc.
func verdictsOf(p *specs.LinuxSeccomp, a abi, otherwise uint32) (verdicts map[uint32]verdict, last uint32, err error) {
	verdicts = map[uint32]verdict{}
	settled := map[uint32]bool{}
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		act, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, 0, fmt.Errorf("rule %d: %w", i, err)
		}
		alternatives, err := alternativesOf(s.Args)
		if err != nil {
			return nil, 0, fmt.Errorf("rule %d: %w", i, err)
		}
		for _, name := range s.Names {
			n, ok := a.number(name)
			if !ok {
				continue
			}
			last = max(last, n)
			switch {
			case act == otherwise || settled[n]:
			case len(s.Args) == 0:
				verdicts[n], settled[n] = verdict{otherwise: act}, true
			default:
				verdicts[n] = verdict{rules: append(verdicts[n].rules, rulesOf(alternatives, act)...), otherwise: otherwise}
			}
		}
	}
	return verdicts, last, nil
}

func rulesOf(alternatives [][]specs.LinuxSeccompArg, act uint32) []rule {
	out := make([]rule, len(alternatives))
	for i, c := range alternatives {
		out[i] = rule{conditions: c, action: act}
	}
	return out
}

// maxArgument is the highest index of a call's arguments.
const maxArgument = 5

// alternativesOf is one set of conditions, all of which must hold; but conditions that share an argument are alternatives, as in runc.
func alternativesOf(args []specs.LinuxSeccompArg) ([][]specs.LinuxSeccompArg, error) {
	var seen [maxArgument + 1]bool
	shared := false
	for _, c := range args {
		if c.Index > maxArgument {
			return nil, fmt.Errorf("argument %d, want 0 to %d", c.Index, maxArgument)
		}
		shared = shared || seen[c.Index]
		seen[c.Index] = true
	}
	if !shared {
		return [][]specs.LinuxSeccompArg{args}, nil
	}
	var out [][]specs.LinuxSeccompArg
	for i := range args {
		out = append(out, args[i:i+1])
	}
	return out, nil
}

// segmentsOf covers all numbers, with neighbours of the same plain verdict joined.
func segmentsOf(verdicts map[uint32]verdict, last uint32, a abi, otherwise uint32) []segment {
	var out []segment
	put := func(first uint32, v verdict) {
		if n := len(out); n > 0 && out[n-1].first == first {
			out = out[:n-1]
		}
		if n := len(out); n > 0 && v.plain() && out[n-1].verdict.plain() && out[n-1].verdict.otherwise == v.otherwise {
			return
		}
		out = append(out, segment{first, v})
	}
	put(0, verdict{otherwise: otherwise})
	for _, n := range slices.Sorted(maps.Keys(verdicts)) {
		put(n, verdicts[n])
		put(n+1, verdict{otherwise: otherwise})
	}
	missing := verdict{otherwise: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	if !permissive(otherwise) && len(verdicts) > 0 {
		put(last+1, missing)
	}
	if a.limit != 0 {
		put(a.limit, missing)
	}
	return out
}

func permissive(act uint32) bool {
	return act == unix.SECCOMP_RET_ALLOW || act == unix.SECCOMP_RET_LOG
}
