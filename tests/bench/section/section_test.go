package section

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	samples := []int{5, 1, 4, 2, 3}
	for q, want := range map[float64]int{0: 1, 0.2: 1, 0.21: 2, 0.5: 3, 0.99: 5, 1: 5} {
		if got := Quantile(samples, q); got != want {
			t.Errorf("quantile %v is %d, not %d", q, got, want)
		}
	}
	if got := Median([]int(nil)); got != 0 {
		t.Errorf("median of nothing is %d", got)
	}
	if samples[0] != 5 {
		t.Error("the samples were put into another order")
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Duration(0), "0 ns"},
		{Duration(1234 * time.Nanosecond), "1.23 µs"},
		{Duration(12340 * time.Microsecond), "12.3 ms"},
		{Duration(1500 * time.Millisecond), "1.50 s"},
		{Duration(200 * time.Second), "200 s"},
		{Bytes(999), "999 B"},
		{Bytes(-10_240), "-10.2 kB"},
		{Bytes(1234567), "1.23 MB"},
		{Bytes(54_600_000), "54.6 MB"},
		{Bytes(5_000_000_000), "5.00 GB"},
		{Count(0), "0"},
		{Count(999), "999"},
		{Count(1000), "1,000"},
		{Count(-1234567), "-1,234,567"},
		{Count(-123), "-123"},
		{Ratio(10.0, 4.0), "2.50x"},
		{Ratio(1.0, 0.0), "-"},
		{Ratio(99.96, 1.0), "100x"},
		{Ratio(9.999, 1.0), "10.0x"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	table := NewTable("what", "a", "b")
	table.Row("x", 1, "2 ms")
	if got, want := table.String(), "| what | a | b |\n|---|---:|---:|\n| x | 1 | 2 ms |\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}
