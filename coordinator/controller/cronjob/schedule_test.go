package cronjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

func TestMissed(t *testing.T) {
	cases := map[string]struct {
		schedule, zone, last, now, want string
		many                            bool
	}{
		"not yet":             {schedule: "0 * * * *", last: "2026-01-01T00:00:00Z", now: "2026-01-01T00:59:59Z"},
		"on the second":       {schedule: "0 * * * *", last: "2026-01-01T00:00:00Z", now: "2026-01-01T01:00:00Z", want: "2026-01-01T01:00:00Z"},
		"the last of three":   {schedule: "0 * * * *", last: "2026-01-01T00:00:00Z", now: "2026-01-01T03:30:00Z", want: "2026-01-01T03:00:00Z"},
		"a month of minutes":  {schedule: "* * * * *", last: "2026-01-01T00:00:00Z", now: "2026-02-01T00:00:30Z", want: "2026-02-01T00:00:00Z", many: true},
		"weekdays over":       {schedule: "30 6-16/4 * * 1-5", last: "2026-01-01T00:00:00Z", now: "2026-01-04T12:00:00Z", want: "2026-01-02T14:30:00Z"},
		"every from the last": {schedule: "@every 7h", last: "2026-01-01T01:00:00Z", now: "2026-01-02T00:00:00Z", want: "2026-01-01T22:00:00Z"},
		"never":               {schedule: "59 23 31 2 *", last: "2026-01-01T00:00:00Z", now: "2026-06-01T00:00:00Z"},
		"leap day":            {schedule: "0 0 29 2 *", last: "2021-01-01T00:00:00Z", now: "2026-01-01T00:00:00Z", want: "2024-02-29T00:00:00Z"},
		"eight years apart":   {schedule: "0 0 29 2 *", last: "2095-01-01T00:00:00Z", now: "2103-01-01T00:00:00Z", want: "2096-02-29T00:00:00Z"},
		"since ever":          {schedule: "0 * * * *", last: "0001-01-01T00:00:00Z", now: "2026-01-01T00:30:00Z", want: "2026-01-01T00:00:00Z", many: true},
		"in Berlin":           {schedule: "0 3 * * *", zone: "Europe/Berlin", last: "2026-01-01T00:00:00Z", now: "2026-01-01T02:00:00Z", want: "2026-01-01T03:00:00+01:00"},
		"summer in Berlin":    {schedule: "0 3 * * *", zone: "Europe/Berlin", last: "2026-07-01T00:00:00Z", now: "2026-07-01T01:00:00Z", want: "2026-07-01T03:00:00+02:00"},
		"the skipped hour":    {schedule: "30 2 * * *", zone: "Europe/Berlin", last: "2026-03-28T02:00:00Z", now: "2026-03-29T20:00:00Z"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cron := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: c.schedule}}
			if c.zone != "" {
				cron.Spec.TimeZone = &c.zone
			}
			schedule, err := parse(cron)
			if err != nil {
				t.Fatal(err)
			}
			due, many := missed(schedule, at(t, c.last), at(t, c.now))
			got := ""
			if !due.IsZero() {
				got = due.Format(time.RFC3339)
			}
			if got != c.want || many != c.many {
				t.Errorf("got %q, many %t; want %q, %t", got, many, c.want, c.many)
			}
		})
	}
}

func at(t *testing.T, s string) time.Time {
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func FuzzParse(f *testing.F) {
	f.Add("0 3 * * *", "Europe/Berlin")
	f.Add("TZ=", "UTC")
	f.Add("@every 1s", "")
	f.Fuzz(func(t *testing.T, text, zone string) {
		schedule, err := parse(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: text, TimeZone: &zone}})
		if err != nil {
			return
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if due, _ := missed(schedule, now.Add(-24*time.Hour), now); due.After(now) {
			t.Errorf("%q is due at %s, after now", text, due)
		}
	})
}
