package messaging

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestUsageReportSurvivesTheWire(t *testing.T) {
	for name, r := range map[string]UsageReport{
		"nothing measured yet": {},
		"no pods":              {Age: 1500 * time.Millisecond, Window: 15 * time.Second},
		"pods": {Age: time.Second, Window: 10 * time.Second, Pods: []PodUsage{
			{UID: "3f0c7a5e-1111-4222-8333-0123456789ab", Containers: []ContainerUsage{{"app", 250_000_000, 64 << 20}, {"sidecar", 0, 0}}},
			{UID: "3F0C7A5E-1111-4222-8333-0123456789AB", Containers: []ContainerUsage{{"upper case is another uid", 1, 1 << 60}}},
			{UID: "static", Containers: []ContainerUsage{{"a", 1, 2}}},
		}},
	} {
		got, err := DecodeUsage(r.Encode())
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// usageOf is a report of n pods of one container with ordinary figures.
func usageOf(n int) UsageReport {
	r := UsageReport{Age: 2 * time.Second, Window: 15 * time.Second}
	for i := range n {
		r.Pods = append(r.Pods, PodUsage{
			UID:        fmt.Sprintf("3f0c7a5e-1111-4222-8333-%012d", i),
			Containers: []ContainerUsage{{"main", uint64(i) * 1_234_567, uint64(i+20) << 20}},
		})
	}
	return r
}

// The figures of docs/metrics.md hang on this.
func TestUsageReportIsSmall(t *testing.T) {
	for pods, atMost := range map[int]int{3: 110, 100: 3200} {
		if got := len(usageOf(pods).Encode()); got > atMost {
			t.Errorf("%d pods take %d bytes, want at most %d", pods, got, atMost)
		}
	}
	if got := len(usageOf(100_000).Encode()); got > maxUsageBytes {
		t.Errorf("%d bytes, want a bound of %d", got, maxUsageBytes)
	}
}

func FuzzDecodeUsage(f *testing.F) {
	f.Add(UsageReport{}.Encode())
	f.Add(usageOf(3).Encode())
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeUsage(data)
		if err != nil {
			if !errors.Is(err, ErrUsage) {
				t.Errorf("error %v is no ErrUsage", err)
			}
			return
		}
		again, err := DecodeUsage(r.Encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
