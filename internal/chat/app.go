package chat

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An App is one tenant: its keys and how it wants to be served. Apps never see
// each other. An App in hand is immutable; a change makes a new one.
type App struct {
	ID        AppID
	Key       string
	Secret    string // signs the server API
	TokenKey  []byte // signs access tokens; its own, so that a new Secret voids no token
	CreatedAt time.Time
	Settings  Settings
}

// A Rate is a limit: at most N in each Per. The zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// String is the rate as written in settings: "6000/m", "100/s", "0" for none.
func (r Rate) String() string {
	if r.N == 0 {
		return "0"
	}
	for _, u := range rateUnits {
		if r.Per == u.per {
			return strconv.Itoa(r.N) + "/" + u.name
		}
	}
	return fmt.Sprintf("%d/%s", r.N, r.Per)
}

var rateUnits = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// ParseRate reads "N/s", "N/m", "N/h", "N/d" or "0".
func ParseRate(s string) (Rate, error) {
	num, unit, found := strings.Cut(s, "/")
	n, err := strconv.Atoi(num)
	if err != nil || n < 0 || n > 1<<30 {
		return Rate{}, fmt.Errorf("want N/s, N/m, N/h, N/d or 0 for none, got %q", s)
	}
	if n == 0 {
		return Rate{}, nil
	}
	for _, u := range rateUnits {
		if found && unit == u.name {
			return Rate{N: n, Per: u.per}, nil
		}
	}
	return Rate{}, fmt.Errorf("want N/s, N/m, N/h, N/d or 0 for none, got %q", s)
}

// Settings are what an app can choose. They are data: changed while the server
// runs, in force at once.
type Settings struct {
	LimitDirect  Rate
	LimitSystem  Rate
	LimitOpen    Rate
	LimitToken   Rate
	LimitDefault Rate
	LimitClient  Rate
	LimitHistory Rate
	LimitStream  Rate

	LimitUserTags        Rate
	LimitBroadcastHour   Rate
	LimitBroadcastDay    Rate
	LimitBroadcastOnline Rate

	LimitOpenBroadcast Rate
	LimitOpenMetadata  Rate
	LimitParticipants  Rate

	AuthWindow time.Duration
	AuthReplay bool

	TokenLifetime time.Duration
	MissedDays    int
	History       bool
	StreamIdle    time.Duration

	OpenIdle   time.Duration
	OpenStrict bool
	OpenSingle bool
	OpenAway   time.Duration
	KeepAlive  int

	Intake            bool
	IntakeWindow      time.Duration
	IntakeShared      int
	IntakeHigh        int
	IntakeAllowlisted int

	RegisteredUsersOnly bool
	UnknownBuiltins     bool
	CustomTypes         map[string]TypeFlags

	Sessions int

	Broadcasts       bool
	BroadcastDays    int
	BroadcastPace    int
	BroadcastHistory bool

	Push               bool
	PushLanguage       string
	PushLifetime       time.Duration
	PushDespiteDesktop bool
	PushWithdraw       bool
}

// A Setting describes one app setting: the one source of its name, default,
// meaning, parsing and printing.
type Setting struct {
	Name    string
	Default string
	Doc     string
	set     func(*Settings, string) error
	get     func(*Settings) string
}

// AppSettings lists every app setting, in the order the reference shows them.
var AppSettings = []Setting{
	rateSetting("limits.direct", "6000/m", "Direct messages, counted per recipient.", func(s *Settings) *Rate { return &s.LimitDirect }),
	rateSetting("limits.system", "100/s", "System messages, counted per recipient.", func(s *Settings) *Rate { return &s.LimitSystem }),
	rateSetting("limits.open", "100/s", "Open channel messages, counted per channel.", func(s *Settings) *Rate { return &s.LimitOpen }),
	rateSetting("limits.token", "200/s", "Calls that issue access tokens.", func(s *Settings) *Rate { return &s.LimitToken }),
	rateSetting("limits.default", "100/s", "Calls of each operation without a limit of its own.", func(s *Settings) *Rate { return &s.LimitDefault }),
	rateSetting("limits.history", "10/s", "Calls of each operation that lists history.", func(s *Settings) *Rate { return &s.LimitHistory }),
	rateSetting("limits.stream", "100/s", "Chunks of streams, the first of each not counted: that one is a direct message.", func(s *Settings) *Rate { return &s.LimitStream }),
	rateSetting("limits.open-broadcast", "1/s", "Broadcasts to all open channels.", func(s *Settings) *Rate { return &s.LimitOpenBroadcast }),
	rateSetting("limits.user-tags", "10/s", "Calls that set users' tags.", func(s *Settings) *Rate { return &s.LimitUserTags }),
	rateSetting("limits.broadcast-hour", "2/h", "Broadcasts to all users, by tags and by app packages, taken together; and, for themselves, recalls of broadcasts.", func(s *Settings) *Rate { return &s.LimitBroadcastHour }),
	rateSetting("limits.broadcast-day", "3/d", "The same over a longer time: both limits hold.", func(s *Settings) *Rate { return &s.LimitBroadcastDay }),
	rateSetting("limits.broadcast-online", "60/m", "Broadcasts to those who are online.", func(s *Settings) *Rate { return &s.LimitBroadcastOnline }),
	rateSetting("limits.open-metadata", "100/s", "Pairs of open channels' metadata that are set or removed, of both together.", func(s *Settings) *Rate { return &s.LimitOpenMetadata }),
	rateSetting("limits.client", "5/s", "Messages that each client connection may send, and changes of open channels' metadata that it may make.", func(s *Settings) *Rate { return &s.LimitClient }),
	rateSetting("limits.participants", "20/m", "How often a device of a user may ask who is in an open channel, and then not more than once a second.", func(s *Settings) *Rate { return &s.LimitParticipants }),
	durationSetting("auth.window", "5m", 0, 24*time.Hour, "How far a call's Timestamp may be from the server's clock, either way. 0 turns the check off, and with it the replay guard.", func(s *Settings) *time.Duration { return &s.AuthWindow }),
	boolSetting("auth.replay", "true", "Refuse a second call with the same four auth headers within the window.", func(s *Settings) *bool { return &s.AuthReplay }),
	durationSetting("tokens.lifetime", "0", 0, 10*365*24*time.Hour, "How long access tokens are valid, counted from issue. 0 is for ever.", func(s *Settings) *time.Duration { return &s.TokenLifetime }),
	intSetting("missed.days", "7", 1, 7, "Days that missed messages wait for recipients who are away.", func(s *Settings) *int { return &s.MissedDays }),
	boolSetting("history.enabled", "true", "Store messages with shouldPersist 1 in history.", func(s *Settings) *bool { return &s.History }),
	durationSetting("streams.idle", "60s", time.Second, 24*time.Hour, "How long a stream message may go without a chunk before it is closed with what it has. Counts for streams begun from then on.", func(s *Settings) *time.Duration { return &s.StreamIdle }),
	durationSetting("open.idle", "1h", time.Hour, 24*time.Hour, "How long an open channel lives in which nobody enters, leaves or writes, unless it was made with a time of its own.", func(s *Settings) *time.Duration { return &s.OpenIdle }),
	boolSetting("open.strict", "false", "Open channels exist only once they are created: entering or writing makes none.", func(s *Settings) *bool { return &s.OpenStrict }),
	boolSetting("open.single", "true", "A user is in one open channel at a time: entering one leaves the other.", func(s *Settings) *bool { return &s.OpenSingle }),
	durationSetting("open.away", "0", 0, time.Hour, "How long a user who lost their connection is counted as a participant at most, such as 5m. They are left out sooner by the 31st message they miss, or the first one after 30 seconds. 0 is for ever.", func(s *Settings) *time.Duration { return &s.OpenAway }),
	intSetting("open.keep-alive", "100", 0, 10_000, "How many open channels may be on the list of those that do not end by themselves.", func(s *Settings) *int { return &s.KeepAlive }),
	boolSetting("open.intake", "true", "Shed what an open channel is sent beyond its budgets. What is shed is neither kept nor delivered, and the answer says so.", func(s *Settings) *bool { return &s.Intake }),
	durationSetting("open.intake.window", "200ms", 10*time.Millisecond, 10*time.Second, "The time in which an open channel takes as many messages as its budgets say.", func(s *Settings) *time.Duration { return &s.IntakeWindow }),
	intSetting("open.intake.shared", "20", 0, 1_000_000, "Messages of any priority that an open channel takes in a window.", func(s *Settings) *int { return &s.IntakeShared }),
	intSetting("open.intake.high", "20", 0, 1_000_000, "Messages more that it takes when they are not of low priority.", func(s *Settings) *int { return &s.IntakeHigh }),
	intSetting("open.intake.allowlisted", "20", 0, 1_000_000, "Messages more that it takes when they are allowlisted: by their priority, their sender or their type.", func(s *Settings) *int { return &s.IntakeAllowlisted }),
	boolSetting("users.registered-only", "false", "Refuse sends from or to users who were never issued a token.", func(s *Settings) *bool { return &s.RegisteredUsersOnly }),
	intSetting("users.sessions", "32", 1, 1000, "Connections one user may have at once.", func(s *Settings) *int { return &s.Sessions }),
	boolSetting("broadcast.enabled", "true", "Take broadcasts, also those to all open channels, and sends by tags and app packages.", func(s *Settings) *bool { return &s.Broadcasts }),
	intSetting("broadcast.days", "7", 0, MaxBroadcastDays, "For how many days after a broadcast users who were registered later still get it. Who was registered gets it within 7 days in any case. 0: new users get only what is sent after they came.", func(s *Settings) *int { return &s.BroadcastDays }),
	intSetting("broadcast.pace", "2000", 1, 1_000_000, "How many messages a second broadcasts to those who are online are worked through with. It goes faster where that would take more than the documented 3 minutes.", func(s *Settings) *int { return &s.BroadcastPace }),
	boolSetting("broadcast.history", "false", "Keep broadcasts in history too.", func(s *Settings) *bool { return &s.BroadcastHistory }),
	boolSetting("push.enabled", "true", "Notify devices of messages that did not reach their users. Without credentials for a provider it means nothing.", func(s *Settings) *bool { return &s.Push }),
	{
		Name: "push.language", Default: "en",
		Doc: "The language of notifications to devices that did not say theirs, and of templates that do not have it: a language tag such as en or zh-Hans-CN.",
		set: func(s *Settings, v string) error {
			tag, err := ParseLanguage("push.language", v)
			if err != nil {
				return fmt.Errorf("want a language tag such as en or zh-Hans-CN, got %q", v)
			}
			s.PushLanguage = tag
			return nil
		},
		get: func(s *Settings) string { return s.PushLanguage },
	},
	durationSetting("push.lifetime", "24h", time.Minute, 72*time.Hour, "For how long after it was sent a message is worth a notification. Calls and silent notifications have a minute at most.", func(s *Settings) *time.Duration { return &s.PushLifetime }),
	boolSetting("push.despite-desktop", "false", "Notify phones although the message has reached the user in a browser or on a desktop.", func(s *Settings) *bool { return &s.PushDespiteDesktop }),
	boolSetting("push.withdraw", "false", "Take a notification of APNs or FCM back when its message was read on another device or recalled.", func(s *Settings) *bool { return &s.PushWithdraw }),
	boolSetting("types.unknown-builtins", "false", "Accept RC: types this server does not know, as custom types.", func(s *Settings) *bool { return &s.UnknownBuiltins }),
	{
		Name:    "types.custom",
		Default: "",
		Doc:     "How custom message types are treated, as name=flag,name=flag. Flags: none (kept for offline users), persisted (and in local history), counted (and unread), status (online devices only, never kept). Types not listed are counted.",
		set: func(s *Settings, v string) error {
			types, err := parseCustomTypes(v)
			if err == nil {
				s.CustomTypes = types
			}
			return err
		},
		get: func(s *Settings) string { return formatCustomTypes(s.CustomTypes) },
	},
}

// DefaultSettings are the settings of an app that changed none.
func DefaultSettings() Settings {
	var s Settings
	for _, d := range AppSettings {
		if err := d.set(&s, d.Default); err != nil {
			panic(fmt.Sprintf("default of app setting %s: %v", d.Name, err))
		}
	}
	return s
}

// Set changes one setting by name. The error names it.
func (s *Settings) Set(name, value string) error {
	for _, d := range AppSettings {
		if d.Name == name {
			if err := d.set(s, value); err != nil {
				return Invalid(name, err.Error())
			}
			return nil
		}
	}
	return Invalid(name, "no such app setting")
}

// Changed lists the settings that differ from the defaults, as name and value.
// Only these are stored, so that a new release may improve a default.
func (s *Settings) Changed() map[string]string {
	def := DefaultSettings()
	m := map[string]string{}
	for _, d := range AppSettings {
		if v := d.get(s); v != d.get(&def) {
			m[d.Name] = v
		}
	}
	return m
}

// All lists every setting with its current value.
func (s *Settings) All() map[string]string {
	m := make(map[string]string, len(AppSettings))
	for _, d := range AppSettings {
		m[d.Name] = d.get(s)
	}
	return m
}

func rateSetting(name, def, doc string, field func(*Settings) *Rate) Setting {
	return Setting{
		Name: name, Default: def, Doc: doc + " N/s, N/m, N/h or N/d; 0 for none.",
		set: func(s *Settings, v string) error {
			r, err := ParseRate(v)
			if err == nil {
				*field(s) = r
			}
			return err
		},
		get: func(s *Settings) string { return field(s).String() },
	}
}

func durationSetting(name, def string, low, high time.Duration, doc string, field func(*Settings) *time.Duration) Setting {
	return Setting{
		Name: name, Default: def, Doc: doc,
		set: func(s *Settings, v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < low || d > high {
				return fmt.Errorf("want a duration from %s to %s such as 5m, got %q", low, high, v)
			}
			*field(s) = d
			return nil
		},
		get: func(s *Settings) string { return field(s).String() },
	}
}

func intSetting(name, def string, low, high int, doc string, field func(*Settings) *int) Setting {
	return Setting{
		Name: name, Default: def, Doc: doc,
		set: func(s *Settings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < low || n > high {
				return fmt.Errorf("want a number from %d to %d, got %q", low, high, v)
			}
			*field(s) = n
			return nil
		},
		get: func(s *Settings) string { return strconv.Itoa(*field(s)) },
	}
}

func boolSetting(name, def, doc string, field func(*Settings) *bool) Setting {
	return Setting{
		Name: name, Default: def, Doc: doc,
		set: func(s *Settings, v string) error {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("want true or false, got %q", v)
			}
			*field(s) = b
			return nil
		},
		get: func(s *Settings) string { return strconv.FormatBool(*field(s)) },
	}
}

func parseCustomTypes(v string) (map[string]TypeFlags, error) {
	if v == "" {
		return nil, nil
	}
	m := map[string]TypeFlags{}
	for pair := range strings.SplitSeq(v, ",") {
		name, word, _ := strings.Cut(pair, "=")
		flags, ok := registrationFlags[word]
		if !ok || name == "" || IsBuiltin(name) {
			return nil, fmt.Errorf("want name=none|persisted|counted|status with a custom type's name, got %q", pair)
		}
		m[name] = flags
	}
	return m, nil
}

func formatCustomTypes(m map[string]TypeFlags) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		for word, flags := range registrationFlags {
			if flags == m[name] {
				pairs = append(pairs, name+"="+word)
			}
		}
	}
	return strings.Join(pairs, ",")
}
