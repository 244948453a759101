package section

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quantile is the smallest sample that at least the part q of all samples does not exceed; zero without samples.
func Quantile[T cmp.Ordered](samples []T, q float64) T {
	var zero T
	if len(samples) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

// Median is the Quantile of one half.
func Median[T cmp.Ordered](samples []T) T { return Quantile(samples, 0.5) }

// Duration writes d with three digits that count.
func Duration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return digits(float64(d)/float64(time.Microsecond)) + " µs"
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + " ms"
	default:
		return digits(d.Seconds()) + " s"
	}
}

// Bytes writes n with three digits that count, in powers of 1000.
func Bytes(n int64) string {
	switch v := float64(n); {
	case n < 0:
		return "-" + Bytes(-n)
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return digits(v/1e3) + " kB"
	case n < 1000*1000*1000:
		return digits(v/1e6) + " MB"
	default:
		return digits(v/1e9) + " GB"
	}
}

// Ratio says how many times a is b: "5.2x". It is a dash when b is nothing.
func Ratio[T ~int64 | ~float64](a, b T) string {
	if b == 0 {
		return "-"
	}
	return digits(float64(a)/float64(b)) + "x"
}

// Count writes n with a comma after each three digits.
func Count(n int64) string {
	text := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 && text[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func digits(v float64) string {
	switch {
	case v >= 99.95:
		return Count(int64(math.Round(v)))
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
