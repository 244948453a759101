package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h). Arguments have 64 bits; all our machines are little-endian.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(act uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: act}
}

// jump compares what was loaded with k and leaves out so many instructions.
func jump(op uint16, k uint32, ifTrue, ifFalse uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: ifTrue, Jf: ifFalse}
}

func skip(n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)} //nolint:gosec // below maxInstructions
}

// maxNear is the farthest that a comparison can jump.
const maxNear = 255

// tree finds the segment of the loaded number by halving: some seven comparisons for a profile that names 400 calls.
func tree(segments []segment) ([]unix.SockFilter, error) {
	if len(segments) == 1 {
		return leaf(segments[0].verdict)
	}
	middle := len(segments) / 2
	low, err := tree(segments[:middle])
	if err != nil {
		return nil, err
	}
	high, err := tree(segments[middle:])
	if err != nil {
		return nil, err
	}
	first := segments[middle].first
	if len(low) <= maxNear {
		low = append([]unix.SockFilter{jump(unix.BPF_JGE, first, uint8(len(low)), 0)}, low...)
	} else {
		low = append([]unix.SockFilter{jump(unix.BPF_JGE, first, 0, 1), skip(len(low))}, low...)
	}
	return append(low, high...), nil
}

// leaf tries the rules of a verdict in turn.
func leaf(v verdict) ([]unix.SockFilter, error) {
	var code []unix.SockFilter
	for _, r := range v.rules {
		var steps []step
		for _, c := range r.conditions {
			part, err := test(c)
			if err != nil {
				return nil, err
			}
			steps = append(steps, part...)
		}
		code = append(append(code, link(steps)...), ret(r.action))
	}
	return append(code, ret(v.otherwise)), nil
}

// target is where a comparison leads.
type target uint8

const (
	next target = iota // to the following instruction
	pass               // to the end of the condition
	fail               // past the end of the rule
)

// step is an instruction of a condition with its targets not yet counted.
type step struct {
	filter   unix.SockFilter
	yes, no  target
	left     int // steps to the end of the condition
	straight bool
}

// test is a condition on one argument of 64 bits, compared in two halves.
func test(c specs.LinuxSeccompArg) ([]step, error) {
	low, high := offsetArgs+8*uint32(c.Index), offsetArgs+8*uint32(c.Index)+4 //nolint:gosec // at most maxArgument
	compare := func(op uint16, k uint64, yes, no target) step {
		return step{filter: jump(op, uint32(k), 0, 0), yes: yes, no: no}
	}
	get := func(offset uint32) step { return step{filter: load(offset), straight: true} }
	mask := func(k uint64) step {
		return step{filter: unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: uint32(k)}, straight: true}
	}
	v, h := c.Value, c.Value>>32
	var out []step
	switch c.Op {
	case specs.OpEqualTo:
		out = []step{get(high), compare(unix.BPF_JEQ, h, next, fail), get(low), compare(unix.BPF_JEQ, v, pass, fail)}
	case specs.OpNotEqual:
		out = []step{get(high), compare(unix.BPF_JEQ, h, next, pass), get(low), compare(unix.BPF_JEQ, v, fail, pass)}
	case specs.OpGreaterThan:
		out = []step{get(high), compare(unix.BPF_JGT, h, pass, next), compare(unix.BPF_JEQ, h, next, fail), get(low), compare(unix.BPF_JGT, v, pass, fail)}
	case specs.OpGreaterEqual:
		out = []step{get(high), compare(unix.BPF_JGT, h, pass, next), compare(unix.BPF_JEQ, h, next, fail), get(low), compare(unix.BPF_JGE, v, pass, fail)}
	case specs.OpLessThan:
		out = []step{get(high), compare(unix.BPF_JGT, h, fail, next), compare(unix.BPF_JEQ, h, next, pass), get(low), compare(unix.BPF_JGE, v, fail, pass)}
	case specs.OpLessEqual:
		out = []step{get(high), compare(unix.BPF_JGT, h, fail, next), compare(unix.BPF_JEQ, h, next, pass), get(low), compare(unix.BPF_JGT, v, fail, pass)}
	case specs.OpMaskedEqual:
		w := c.ValueTwo
		out = []step{get(high), mask(h), compare(unix.BPF_JEQ, w>>32, next, fail), get(low), mask(v), compare(unix.BPF_JEQ, w, pass, fail)}
	default:
		return nil, fmt.Errorf("operator %q: %w", c.Op, ErrUnsupported)
	}
	for i := range out {
		out[i].left = len(out) - i - 1
	}
	return out, nil
}

// link counts the jumps of a rule's conditions. The instruction after them is the rule's action, the one after that is where fail leads.
// Six conditions of six steps are far from maxNear.
func link(steps []step) []unix.SockFilter {
	code := make([]unix.SockFilter, len(steps))
	for i, s := range steps {
		code[i] = s.filter
		if s.straight {
			continue
		}
		distance := map[target]int{next: 0, pass: s.left, fail: len(steps) - i}
		code[i].Jt, code[i].Jf = uint8(distance[s.yes]), uint8(distance[s.no]) //nolint:gosec // see above
	}
	return code
}
