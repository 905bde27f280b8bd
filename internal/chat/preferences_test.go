package chat

import (
	"strings"
	"testing"
	"time"
)

func TestNotifyRules(t *testing.T) {
	t.Parallel()
	const (
		all, none, mine, any, everyone = NotifyAll, NotifyNothing, NotifyMentionsOfMe, NotifyMentions, NotifyMentionsOfAll
	)
	night := &QuietHours{From: 22 * 60, To: 7 * 60, Zone: "Europe/Berlin", Level: none}
	// In summer Berlin is two hours ahead, in winter one.
	midnight := time.Date(2026, 7, 1, 22, 30, 0, 0, time.UTC)
	noon := time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		r    NotifyRules
		now  time.Time
		want NotifyLevel
	}{
		"nothing set":                   {NotifyRules{}, noon, all},
		"the app":                       {NotifyRules{App: none}, noon, none},
		"a community over the app":      {NotifyRules{Community: any, App: none}, noon, any},
		"the type over the community":   {NotifyRules{Type: mine, Community: any, App: none}, noon, mine},
		"the channel over the type":     {NotifyRules{Channel: everyone, Type: mine, App: none}, noon, everyone},
		"a part over its channel":       {NotifyRules{Subchannel: all, Channel: none, Type: none, Community: none, App: none}, noon, all},
		"quiet hours over all":          {NotifyRules{Quiet: night, Subchannel: all, Channel: all, Type: all, App: all}, midnight, none},
		"quiet hours are over":          {NotifyRules{Quiet: night, Channel: any}, noon, any},
		"quiet hours let mentions pass": {NotifyRules{Quiet: &QuietHours{From: 0, To: 1439, Zone: "UTC", Level: any}}, noon, any},
	} {
		if got := c.r.At(c.now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestQuietHours(t *testing.T) {
	t.Parallel()
	utc := func(month time.Month, hour, minute int) time.Time {
		return time.Date(2026, month, 15, hour, minute, 59, 0, time.UTC)
	}
	for _, c := range []struct {
		from, to, zone string
		at             time.Time
		want           bool
	}{
		{"22:00", "07:00", "", utc(1, 21, 59), false},
		{"22:00", "07:00", "", utc(1, 22, 0), true},
		{"22:00", "07:00", "", utc(1, 0, 0), true},
		{"22:00", "07:00", "", utc(1, 6, 59), true},
		{"22:00", "07:00", "", utc(1, 7, 0), false},
		{"12:00", "13:30", "", utc(1, 12, 0), true},
		{"12:00", "13:30", "", utc(1, 13, 29), true},
		{"12:00", "13:30", "", utc(1, 13, 30), false},
		{"12:00", "13:30", "", utc(1, 11, 59), false},
		{"22:00", "07:00", "Europe/Berlin", utc(1, 20, 59), false},
		{"22:00", "07:00", "Europe/Berlin", utc(1, 21, 0), true},
		{"22:00", "07:00", "Europe/Berlin", utc(7, 20, 0), true},
		{"22:00", "07:00", "Europe/Berlin", utc(7, 5, 0), false},
		{"22:00", "07:00", "Asia/Kolkata", utc(1, 16, 30), true},
		{"22:00", "07:00", "Asia/Kolkata", utc(1, 16, 29), false},
	} {
		q, err := ParseQuietHours(c.from, c.to, c.zone, 0)
		if err != nil {
			t.Fatal(err)
		}
		if q.At(c.at) != c.want || q.Level != NotifyNothing || Clock(q.From) != c.from || Clock(q.To) != c.to {
			t.Errorf("%s to %s %s at %s: %t %+v", c.from, c.to, c.zone, c.at, !c.want, q)
		}
	}
	gone := QuietHours{From: 0, To: 60, Zone: "Atlantis/Poseidonia"}
	if !gone.At(utc(1, 0, 30)) {
		t.Error("a zone that is not known is not UTC")
	}
	for _, c := range []struct {
		from, to, zone string
		level          NotifyLevel
		want           string
	}{
		{"", "07:00", "", 0, "from: is required"},
		{"22:00", "", "", 0, "to: is required"},
		{"24:00", "07:00", "", 0, "from: must be a time of the day such as 22:00"},
		{"22:00", "7:00", "", 0, "to: must be a time of the day such as 22:00"},
		{"22:00", "07:60", "", 0, "to: must be a time of the day such as 22:00"},
		{"+2:00", "07:00", "", 0, "from: must be a time of the day such as 22:00"},
		{"22:00", "07 00", "", 0, "to: must be a time of the day such as 22:00"},
		{"22", "07:00", "", 0, "from: must be a time of the day such as 22:00"},
		{"22:00", "22:00", "", 0, "to: must be another time than from"},
		{"22:00", "07:00", "Local", 0, "timezone: must be the name of a time zone, such as Europe/Berlin"},
		{"22:00", "07:00", "../etc/passwd", 0, "timezone: must be the name of a time zone, such as Europe/Berlin"},
		{"22:00", "07:00", "Mars/Base", 0, "timezone: must be the name of a time zone, such as Europe/Berlin"},
		{"22:00", "07:00", "", NotifyAll, "level: one of 1, 2, 4, 5, got -1"},
		{"22:00", "07:00", "", 3, "level: one of 1, 2, 4, 5, got 3"},
	} {
		if _, err := ParseQuietHours(c.from, c.to, c.zone, c.level); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestTagTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "f: is required", "work": "", strings.Repeat("ü", 10): "", "a b": "",
		strings.Repeat("ü", 11): "f: at most 10 characters, got 11", "a\n": "f: must not contain control characters", "\xff": "f: must be valid UTF-8",
	} {
		if err := CheckTagID("f", text); want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := CheckTagName("f", strings.Repeat("x", 15)); err != nil {
		t.Error(err)
	}
	if err := CheckTagName("f", strings.Repeat("x", 16)); KindOf(err) != KindTooLong {
		t.Error(err)
	}
	for _, c := range [][3]string{{"c", "", "c"}, {"c", "s", "c s"}} {
		channel, sub := CutSubchannel(c[2])
		if id := Subchannel(c[0], c[1]); id != c[2] || channel != c[0] || sub != c[1] {
			t.Errorf("%q: %q %q %q", c, id, channel, sub)
		}
	}
}

func FuzzQuietHours(f *testing.F) {
	f.Add("22:00", "07:00", "Europe/Berlin", int8(0))
	f.Add("00:00", "23:59", "", int8(1))
	f.Add("2200", "+7:00", "../x", int8(-3))
	f.Fuzz(func(t *testing.T, from, to, zone string, level int8) {
		q, err := ParseQuietHours(from, to, zone, NotifyLevel(level))
		if err != nil {
			if KindOf(err) != KindInvalid {
				t.Fatal(err)
			}
			return
		}
		if Clock(q.From) != from || Clock(q.To) != to || q.From == q.To || !q.Level.Valid() || q.Level == NotifyUnset {
			t.Fatalf("%q to %q %q is %+v", from, to, zone, q)
		}
		// A day has both: some minutes are quiet and some are not.
		quiet := 0
		start := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
		for m := range minutesOfDay {
			if q.At(start.Add(time.Duration(m) * time.Minute)) {
				quiet++
			}
		}
		if quiet == 0 || quiet == minutesOfDay {
			t.Fatalf("%q to %q %q: %d minutes are quiet", from, to, zone, quiet)
		}
	})
}
