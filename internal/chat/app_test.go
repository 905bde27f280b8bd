package chat

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{
		"6000/m": {6000, time.Minute}, "100/s": {100, time.Second}, "1/h": {1, time.Hour}, "3/d": {3, 24 * time.Hour},
		"0": {}, "1073741824/s": {1 << 30, time.Second},
	} {
		got, err := ParseRate(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if r, err := ParseRate("0/s"); err != nil || r != (Rate{}) {
		t.Error(r, err)
	}
	for _, bad := range []string{"", "/", "/s", "5", "-1/s", "1.5/s", "5/", "5/w", "5/S", "5 /s", "5/s/s", "1073741825/s", "99999999999999999999/s"} {
		if r, err := ParseRate(bad); err == nil {
			t.Errorf("%q: %v", bad, r)
		}
	}
	if s := (Rate{5, 2 * time.Second}).String(); s != "5/2s" {
		t.Error(s)
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"6000/m", "0", "1/h", "", "5/w"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			return
		}
		if again, err := ParseRate(r.String()); err != nil || again != r || r.N < 0 || (r.N == 0) != (r == Rate{}) {
			t.Fatalf("%q: %v, again %v, %v", s, r, again, err)
		}
	})
}

// The defaults are those the pages state.
func TestDefaultSettings(t *testing.T) {
	t.Parallel()
	want := Settings{
		LimitDirect: Rate{6000, time.Minute}, LimitSystem: Rate{100, time.Second}, LimitOpen: Rate{100, time.Second},
		LimitToken: Rate{200, time.Second}, LimitDefault: Rate{100, time.Second}, LimitHistory: Rate{10, time.Second}, LimitClient: Rate{5, time.Second},
		LimitStream: Rate{100, time.Second}, StreamIdle: time.Minute,
		LimitOpenMetadata: Rate{100, time.Second}, LimitParticipants: Rate{20, time.Minute},
		AuthWindow: 5 * time.Minute, AuthReplay: true, MissedDays: 7, History: true, Sessions: 32,
		OpenIdle: time.Hour, OpenSingle: true, KeepAlive: 100, LimitOpenBroadcast: Rate{1, time.Second},
		Intake: true, IntakeWindow: 200 * time.Millisecond, IntakeShared: 20, IntakeHigh: 20, IntakeAllowlisted: 20,
		LimitUserTags: Rate{10, time.Second}, LimitBroadcastHour: Rate{2, time.Hour}, LimitBroadcastDay: Rate{3, 24 * time.Hour},
		LimitBroadcastOnline: Rate{60, time.Minute}, Broadcasts: true, BroadcastDays: 7, BroadcastPace: 2000,
		Push: true, PushLanguage: "en", PushLifetime: 24 * time.Hour,
	}
	got := DefaultSettings()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if c := got.Changed(); len(c) != 0 {
		t.Errorf("defaults count as changed: %v", c)
	}
	for name, value := range got.All() {
		again := DefaultSettings()
		if err := again.Set(name, value); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestSetSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, shown string }{
		{"limits.direct", "0", "0"}, {"limits.client", "10/m", "10/m"},
		{"auth.window", "90s", "1m30s"}, {"auth.window", "0", "0s"}, {"auth.window", "24h", "24h0m0s"},
		{"auth.replay", "0", "false"}, {"tokens.lifetime", "720h", "720h0m0s"},
		{"missed.days", "1", "1"}, {"users.sessions", "1000", "1000"}, {"history.enabled", "false", "false"},
		{"users.registered-only", "true", "true"}, {"types.unknown-builtins", "T", "true"},
		{"push.enabled", "false", "false"}, {"push.language", "zh_hans_cn", "zh-Hans-CN"}, {"push.lifetime", "1m", "1m0s"},
		{"types.custom", "b=status,a=none,c=counted,d=persisted", "a=none,b=status,c=counted,d=persisted"},
	} {
		s := DefaultSettings()
		if err := s.Set(c.name, c.value); err != nil {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
			continue
		}
		if got := s.Changed(); !maps.Equal(got, map[string]string{c.name: c.shown}) {
			t.Errorf("%s=%s changed %v", c.name, c.value, got)
		}
		if got := s.All(); got[c.name] != c.shown || len(got) != len(AppSettings) {
			t.Errorf("%s=%s is shown as %q", c.name, c.value, got[c.name])
		}
	}
	for _, c := range []struct{ name, value, want string }{
		{"limits.direct", "fast", `limits.direct: want N/s, N/m, N/h, N/d or 0 for none, got "fast"`},
		{"auth.window", "5", `auth.window: want a duration from 0s to 24h0m0s such as 5m, got "5"`},
		{"auth.window", "25h", `auth.window: want a duration from 0s to 24h0m0s such as 5m, got "25h"`},
		{"auth.window", "-1s", `auth.window: want a duration from 0s to 24h0m0s such as 5m, got "-1s"`},
		{"missed.days", "8", `missed.days: want a number from 1 to 7, got "8"`},
		{"missed.days", "0", `missed.days: want a number from 1 to 7, got "0"`},
		{"auth.replay", "yes", `auth.replay: want true or false, got "yes"`},
		{"push.language", "english!", `push.language: want a language tag such as en or zh-Hans-CN, got "english!"`},
		{"push.language", "", `push.language: want a language tag such as en or zh-Hans-CN, got ""`},
		{"push.lifetime", "73h", `push.lifetime: want a duration from 1m0s to 72h0m0s such as 5m, got "73h"`},
		{"types.custom", "RC:TxtMsg=none", `types.custom: want name=none|persisted|counted|status with a custom type's name, got "RC:TxtMsg=none"`},
		{"types.custom", "a=none,", `types.custom: want name=none|persisted|counted|status with a custom type's name, got ""`},
		{"types.custom", "a", `types.custom: want name=none|persisted|counted|status with a custom type's name, got "a"`},
		{"types.custom", "=none", `types.custom: want name=none|persisted|counted|status with a custom type's name, got "=none"`},
		{"nope", "1", "nope: no such app setting"},
	} {
		s := DefaultSettings()
		err := s.Set(c.name, c.value)
		if err == nil || err.Error() != c.want || KindOf(err) != KindInvalid {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
		if len(s.Changed()) != 0 {
			t.Errorf("%s=%s: refused, and changed %v", c.name, c.value, s.Changed())
		}
	}
	for _, d := range AppSettings {
		if d.Name == "" || !strings.HasSuffix(d.Doc, ".") {
			t.Errorf("%s: %q", d.Name, d.Doc)
		}
	}
}

func TestRegistered(t *testing.T) {
	t.Parallel()
	if (&User{ID: "u", TokensFrom: 1}).Registered() || !(&User{CreatedAt: time.UnixMilli(1)}).Registered() {
		t.Error("a user is registered who has a date of registration")
	}
}
