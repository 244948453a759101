package messaging

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// UsageReport is what the containers of a node use: the answer to the command "usage". It is packed, about 25 bytes for
// a pod of one container, since a node may be asked every few seconds over a metered link.
type UsageReport struct {
	Age    time.Duration // how long ago the measurement ended, whole milliseconds; nobody has to trust a node's wall clock
	Window time.Duration // how long it took, whole milliseconds; zero when there is none yet, and then no pods
	Pods   []PodUsage
}

// PodUsage is what the running containers of one pod use.
type PodUsage struct {
	UID        string // never empty
	Containers []ContainerUsage
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Name        string
	CPUNanos    uint64 // billionths of a core, the mean over the window
	MemoryBytes uint64 // the working set at the end of the window
}

// ErrUsage means that a usage report cannot be read.
var ErrUsage = errors.New("usage report is malformed")

// usageVersion is the report's first byte. A coordinator that does not know it ignores the report.
const usageVersion = 1

// maxUsageBytes bounds a report; it is half of what a NATS message may hold, room for about 20,000 containers.
const maxUsageBytes = 512 << 10

// Encode packs the report. Pods that do not fit are left out.
func (r UsageReport) Encode() []byte {
	out := []byte{usageVersion}
	out = binary.AppendUvarint(out, millis(r.Age))
	out = binary.AppendUvarint(out, millis(r.Window))
	for _, p := range r.Pods {
		packed := p.append(out)
		if len(packed) > maxUsageBytes {
			break
		}
		out = packed
	}
	return out
}

func millis(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) } //nolint:gosec // not negative

func (p PodUsage) append(out []byte) []byte {
	out = appendUID(out, p.UID)
	out = binary.AppendUvarint(out, uint64(len(p.Containers)))
	for _, c := range p.Containers {
		out = appendText(out, c.Name)
		out = binary.AppendUvarint(out, c.CPUNanos)
		out = binary.AppendUvarint(out, c.MemoryBytes)
	}
	return out
}

// appendUID writes a UUID in its 16 bytes, after a zero, and any other text as it is.
func appendUID(out []byte, uid string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(uid, "-", ""))
	if err == nil && len(raw) == 16 && formatUUID(raw) == uid {
		return append(append(out, 0), raw...)
	}
	return appendText(out, uid)
}

func formatUUID(raw []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}

func appendText(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

// DecodeUsage reads what Encode wrote; any error is an ErrUsage.
func DecodeUsage(data []byte) (UsageReport, error) {
	var r UsageReport
	if len(data) == 0 || data[0] != usageVersion || len(data) > maxUsageBytes {
		return r, fmt.Errorf("%w: version or length", ErrUsage)
	}
	u := unpacker{rest: data[1:]}
	r.Age, r.Window = u.duration(), u.duration()
	for len(u.rest) > 0 && !u.cut {
		r.Pods = append(r.Pods, u.pod())
	}
	if u.cut {
		return UsageReport{}, fmt.Errorf("%w: cut off", ErrUsage)
	}
	return r, nil
}

// unpacker takes values off the front of rest. Once cut it gives zeros.
type unpacker struct {
	rest []byte
	cut  bool
}

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.rest, u.cut = nil, true
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

// duration reads milliseconds; more than a year is as good as a year.
func (u *unpacker) duration() time.Duration {
	const year = 365 * 24 * 3600 * 1000
	return time.Duration(min(u.number(), year)) * time.Millisecond //nolint:gosec // bounded
}

func (u *unpacker) bytes(n uint64) []byte {
	if n > uint64(len(u.rest)) {
		u.rest, u.cut = nil, true
		return nil
	}
	out := u.rest[:n]
	u.rest = u.rest[n:]
	return out
}

func (u *unpacker) pod() PodUsage {
	var p PodUsage
	if n := u.number(); n == 0 && !u.cut {
		if raw := u.bytes(16); !u.cut {
			p.UID = formatUUID(raw)
		}
	} else {
		p.UID = string(u.bytes(n))
	}
	for n := u.number(); n > 0 && !u.cut; n-- {
		p.Containers = append(p.Containers, ContainerUsage{string(u.bytes(u.number())), u.number(), u.number()})
	}
	return p
}
