package cronjob

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
)

// tooMany missed runs are worth a warning: a clock may be wrong.
const tooMany = 100

// parse reads the schedule in the CronJob's time zone, UTC when it names none.
func parse(c *batchv1.CronJob) (schedule cron.Schedule, err error) {
	defer func() {
		if trouble := recover(); trouble != nil { // the library panics on some malformed time zones
			err = fmt.Errorf("parse schedule %q: %v", c.Spec.Schedule, trouble)
		}
	}()
	zone := "UTC"
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("time zone of schedule %q: %w", c.Spec.Schedule, err)
	}
	parsed, err := cron.ParseStandard("TZ=" + zone + " " + c.Spec.Schedule)
	if err != nil {
		return nil, fmt.Errorf("parse schedule %q: %w", c.Spec.Schedule, err)
	}
	return inZone{parsed, location}, nil
}

// inZone gives the schedule's times in its zone.
type inZone struct {
	cron.Schedule
	location *time.Location
}

// Next is the first time after t, zero when there is none within five years.
func (s inZone) Next(t time.Time) time.Time {
	next := s.Schedule.Next(t)
	if next.IsZero() {
		return next
	}
	return next.In(s.location)
}

// missed is the last time of the schedule after last and not after now, zero when there is none; many is true when it is
// one of far too many.
func missed(schedule cron.Schedule, last, now time.Time) (due time.Time, many bool) {
	first := schedule.Next(last)
	if first.IsZero() || first.After(now) {
		return time.Time{}, false
	}
	second := schedule.Next(first)
	if second.IsZero() || second.After(now) {
		return first, false
	}
	step := max(second.Sub(first), time.Second)
	many = now.Sub(first)/step > tooMany
	if z, ok := schedule.(inZone); ok {
		if every, ok := z.Schedule.(cron.ConstantDelaySchedule); ok {
			return first.Add(now.Sub(first) / every.Delay * every.Delay), many
		}
	}
	due = first
	for ; step < now.Sub(last)/2; step *= 2 { // look back ever further: most often once is enough
		if recent := schedule.Next(now.Add(-step)); !recent.IsZero() && !recent.After(now) {
			due = recent
			break
		}
	}
	for next := schedule.Next(due); !next.IsZero() && !next.After(now); next = schedule.Next(next) {
		due = next
	}
	return due, many
}
