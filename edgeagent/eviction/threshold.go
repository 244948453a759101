package eviction

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that a node can run short of, by the kubelet's name.
type Signal string

// The signals. Amounts are bytes, inodes or process ids.
const (
	MemoryAvailable Signal = "memory.available"
	// AllocatableMemory is what all pods together may still use. It has the thresholds of MemoryAvailable and none of its own.
	AllocatableMemory Signal = "allocatableMemory.available"
	NodeAvailable     Signal = "nodefs.available"
	NodeInodesFree    Signal = "nodefs.inodesFree"
	ImageAvailable    Signal = "imagefs.available"
	ImageInodesFree   Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Resources that are none in the API, as the kubelet names them in messages.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

// signals are what can be configured, with the node condition and the resource that each is about.
var signals = map[Signal]struct {
	condition corev1.NodeConditionType
	resource  corev1.ResourceName
}{
	MemoryAvailable:   {corev1.NodeMemoryPressure, corev1.ResourceMemory},
	AllocatableMemory: {corev1.NodeMemoryPressure, corev1.ResourceMemory},
	NodeAvailable:     {corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	NodeInodesFree:    {corev1.NodeDiskPressure, inodes},
	ImageAvailable:    {corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	ImageInodesFree:   {corev1.NodeDiskPressure, inodes},
	PIDAvailable:      {corev1.NodePIDPressure, pids},
}

// Value is an amount, or a share of the capacity if Percent is not zero.
type Value struct {
	Amount  int64
	Percent float64
}

// of is the amount that v is of a capacity.
func (v Value) of(capacity int64) int64 {
	if v.Percent != 0 {
		return int64(float64(capacity) * v.Percent / 100)
	}
	return v.Amount
}

// Threshold is met while less than Value is available.
type Threshold struct {
	Signal Signal
	Value  Value
	// Grace is how long a soft threshold must be met before anything is evicted; zero for a hard one.
	Grace time.Duration
	// Reclaim is how much more than Value must be available before a threshold that was met is not any more.
	Reclaim Value
}

// Settings are thresholds as an operator writes them, in the form of the kubelet's flags of these names: pairs that are
// separated by commas, such as "memory.available<100Mi,nodefs.available<10%".
type Settings struct {
	Hard, Soft                      string
	SoftGracePeriod, MinimumReclaim string // with = instead of <
}

// DefaultHard are the kubelet's defaults on Linux, and a share of the process ids, for which it has none.
const DefaultHard = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%,pid.available<5%"

// Parse reads settings. It returns every fault of them, joined, each with the setting's name.
func Parse(s Settings) ([]Threshold, error) {
	hard, err1 := values("hard", s.Hard, "<")
	soft, err2 := values("soft", s.Soft, "<")
	grace, err3 := periods("soft-grace-period", s.SoftGracePeriod)
	reclaim, err4 := values("minimum-reclaim", s.MinimumReclaim, "=")
	err := errors.Join(err1, err2, err3, err4)
	out := make([]Threshold, 0, len(hard)+len(soft)+1)
	for signal, v := range hard {
		out = append(out, Threshold{Signal: signal, Value: v, Reclaim: reclaim[signal]})
		if signal == MemoryAvailable {
			out = append(out, Threshold{Signal: AllocatableMemory, Value: v, Reclaim: reclaim[signal]})
		}
	}
	for signal, v := range soft {
		if grace[signal] == 0 {
			err = errors.Join(err, fmt.Errorf("soft-grace-period: must be specified for the soft threshold of %s", signal))
		}
		out = append(out, Threshold{Signal: signal, Value: v, Grace: grace[signal], Reclaim: reclaim[signal]})
	}
	slices.SortFunc(out, before)
	return out, err
}

// before is the order in which thresholds are acted on: memory first, as in the kubelet, and hard ones first.
func before(a, b Threshold) int {
	memory := func(t Threshold) int {
		if signals[t.Signal].resource == corev1.ResourceMemory {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(memory(a), memory(b)), cmp.Compare(a.Grace, b.Grace), -cmp.Compare(a.Signal, b.Signal))
}

func values(setting, text, sign string) (map[Signal]Value, error) {
	out := map[Signal]Value{}
	err := each(setting, text, sign, func(signal Signal, text string) error {
		v, none, err := parseValue(text)
		if err == nil && !none {
			out[signal] = v
		}
		return err
	})
	return out, err
}

func periods(setting, text string) (map[Signal]time.Duration, error) {
	out := map[Signal]time.Duration{}
	err := each(setting, text, "=", func(signal Signal, text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a time like 1m30s", text)
		}
		out[signal] = d
		return nil
	})
	return out, err
}

func each(setting, text, sign string, f func(Signal, string) error) error {
	var errs []error
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, sign)
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %q is not like %s%s100Mi", setting, pair, MemoryAvailable, sign))
			continue
		}
		signal := Signal(strings.TrimSpace(name))
		if _, known := signals[signal]; !known || signal == AllocatableMemory {
			errs = append(errs, fmt.Errorf("%s: %q is not one of %s", setting, signal, names()))
			continue
		}
		if err := f(signal, strings.TrimSpace(value)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", setting, signal, err))
		}
	}
	return errors.Join(errs...)
}

func names() string {
	var out []string
	for s := range signals {
		if s != AllocatableMemory {
			out = append(out, string(s))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// parseValue reads a quantity or a percentage. As in the kubelet 0% and 100% mean no threshold.
func parseValue(text string) (v Value, none bool, err error) {
	number, ok := strings.CutSuffix(text, "%")
	if !ok {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() <= 0 {
			return v, false, fmt.Errorf("%q is not a positive quantity like 100Mi, nor a percentage", text)
		}
		return Value{Amount: q.Value()}, false, nil
	}
	share, err := strconv.ParseFloat(number, 64)
	if err != nil || !(share >= 0 && share <= 100) {
		return v, false, fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
	}
	return Value{Percent: share}, share == 0 || share == 100, nil
}

// Hard is how much of a signal's capacity its hard threshold keeps from pods; zero without one.
func Hard(thresholds []Threshold, signal Signal, capacity int64) int64 {
	for _, t := range thresholds {
		if t.Signal == signal && t.Grace == 0 {
			return t.Value.of(capacity)
		}
	}
	return 0
}
