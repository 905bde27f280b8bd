package push

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

var (
	noon    = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	phone   = chat.PushDevice{ID: "p", Provider: chat.FCM, Token: "t"}
	browser = chat.PushDevice{ID: "b", Provider: chat.WEB, Token: "w"}
	apple   = chat.PushDevice{ID: "i", Provider: chat.APNs, Token: "a1"}
)

func message(typ string, ct chat.ChannelType, opts chat.PushOptions) *chat.Message {
	var s chat.Settings
	flags, err := s.Type("messageType", typ)
	if err != nil {
		panic(err)
	}
	return &chat.Message{ChannelType: ct, Flags: flags, From: "alice", Type: typ, Content: `{"content":"Hello"}`, Push: opts}
}

func recall(opts chat.PushOptions) *chat.Message {
	return &chat.Message{ChannelType: chat.Direct, From: "alice", Push: opts, Event: &chat.Event{Kind: chat.EventRecall, UID: chat.NewUID(1, chat.Direct, 1, 1)}}
}

// Which messages notify at all.
func TestDecideMessage(t *testing.T) {
	t.Parallel()
	type opts = chat.PushOptions
	on := &Rules{Enabled: true}
	for name, c := range map[string]struct {
		m      *chat.Message
		rules  *Rules
		effect Effect
		reason Reason
	}{
		"a text":                              {message("RC:TxtMsg", chat.Direct, opts{}), on, Alert, ReasonAway},
		"a text of the system":                {message("RC:TxtMsg", chat.System, opts{}), on, Alert, ReasonAway},
		"a text in a group":                   {message("RC:TxtMsg", chat.Group, opts{}), on, Alert, ReasonAway},
		"a text in a community":               {message("RC:TxtMsg", chat.Community, opts{}), on, Alert, ReasonAway},
		"push is off":                         {message("RC:TxtMsg", chat.Direct, opts{}), &Rules{}, None, ReasonOff},
		"an open channel":                     {message("RC:TxtMsg", chat.Open, opts{Content: "x"}), on, None, ReasonChannel},
		"disablePush":                         {message("RC:TxtMsg", chat.Direct, opts{Content: "x", Disabled: true}), on, None, ReasonDisabled},
		"disablePush and contentAvailable":    {message("RC:TxtMsg", chat.Direct, opts{ContentAvailable: true, Disabled: true}), on, None, ReasonDisabled},
		"a text with contentAvailable":        {message("RC:TxtMsg", chat.Direct, opts{ContentAvailable: true}), on, Alert, ReasonAway},
		"a notification":                      {message("RC:InfoNtf", chat.Direct, opts{}), on, None, ReasonNoText},
		"a notification with a text":          {message("RC:InfoNtf", chat.Direct, opts{Content: "x"}), on, Alert, ReasonAway},
		"a notification, silent":              {message("RC:InfoNtf", chat.Direct, opts{ContentAvailable: true}), on, Silent, ReasonAway},
		"a title alone is no text":            {message("RC:InfoNtf", chat.Direct, opts{Ext: `{"title":"x"}`}), on, None, ReasonNoText},
		"a template alone is no text":         {message("RC:InfoNtf", chat.Direct, opts{Ext: `{"templateId":"x"}`}), on, None, ReasonNoText},
		"a signal":                            {message("RC:CmdMsg", chat.Direct, opts{}), on, None, ReasonNoText},
		"a signal with a text":                {message("RC:CmdMsg", chat.Direct, opts{Content: "x"}), on, Alert, ReasonAway},
		"a call":                              {message("RC:VCInvite", chat.Direct, opts{Content: "Alice calls"}), on, Alert, ReasonAway},
		"the recall command":                  {message("RC:RcCmd", chat.Direct, opts{}), on, Alert, ReasonAway},
		"a recall":                            {recall(opts{}), on, Alert, ReasonAway},
		"a recall with disablePush":           {recall(opts{Disabled: true}), on, None, ReasonDisabled},
		"another event":                       {&chat.Message{ChannelType: chat.Direct, Event: &chat.Event{Kind: chat.EventReceipt}}, on, None, ReasonEvent},
		"a custom type":                       {message("app:order", chat.Direct, opts{}), on, None, ReasonNoText},
		"a custom type with a text":           {message("app:order", chat.Direct, opts{Content: "x"}), on, Alert, ReasonAway},
		"a status":                            {message("RC:TypSts", chat.Direct, opts{Content: "x"}), on, None, ReasonEphemeral},
		"an open channel with push off: off":  {message("RC:TxtMsg", chat.Open, opts{}), &Rules{}, None, ReasonOff},
		"a text that is not to be in history": {&chat.Message{ChannelType: chat.Direct, Flags: chat.Missed | chat.Pushed, Type: "RC:TxtMsg"}, on, Alert, ReasonAway},
	} {
		if effect, reason := NewSend(c.m).Decide(c.rules); effect != c.effect || reason != c.reason {
			t.Errorf("%s: %s, %s; want %s, %s", name, effect, reason, c.effect, c.reason)
		}
	}
}

// Who of those it reaches is notified, and why not the others.
func TestDecide(t *testing.T) {
	t.Parallel()
	text := message("RC:TxtMsg", chat.Direct, chat.PushOptions{})
	silent := message("RC:InfoNtf", chat.Direct, chat.PushOptions{ContentAvailable: true})
	call := message("RC:VCInvite", chat.Direct, chat.PushOptions{Content: "Alice calls"})
	group := func(mention string) *chat.Message {
		m := message("RC:TxtMsg", chat.Group, chat.PushOptions{})
		m.Content = `{"content":"Hello","mentionedInfo":` + mention + `}`
		return m
	}
	all, bob, carol := `{"type":1}`, `{"type":2,"userIdList":["bob"]}`, `{"type":2,"userIdList":["carol"]}`
	at := func(l chat.NotifyLevel) chat.NotifyRules { return chat.NotifyRules{Channel: l} }
	quiet := func(from, to int, l chat.NotifyLevel) *chat.QuietHours {
		return &chat.QuietHours{From: from * 60, To: to * 60, Zone: "UTC", Level: l}
	}
	quietPhone := phone
	quietPhone.Quiet = quiet(8, 20, chat.NotifyNothing)
	mentionPhone := phone
	mentionPhone.Quiet = quiet(8, 20, chat.NotifyMentions)
	both := []chat.PushDevice{phone, apple}

	for name, c := range map[string]struct {
		m    *chat.Message
		r    Recipient
		desk bool
		age  time.Duration
		want Decision
	}{
		"away": {text, Recipient{Devices: both}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},

		"the sender's copy":          {text, Recipient{Copy: true, Devices: both}, false, 0, Decision{Reason: ReasonCopy}},
		"deleted":                    {text, Recipient{Deleted: true, Devices: both}, false, 0, Decision{Reason: ReasonDeleted}},
		"banned":                     {text, Recipient{Banned: true, Devices: both}, false, 0, Decision{Reason: ReasonBanned}},
		"reached":                    {text, Recipient{Reach: Phone, Devices: both}, false, 0, Decision{Reason: ReasonReached}},
		"reached, whatever desks":    {text, Recipient{Reach: Phone, Devices: both}, true, 0, Decision{Reason: ReasonReached}},
		"at a desk":                  {text, Recipient{Reach: Desk, Devices: both}, false, 0, Decision{Reason: ReasonDesktop}},
		"at a desk, which is little": {text, Recipient{Reach: Desk, Devices: both}, true, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"read meanwhile":             {text, Recipient{Read: true, Devices: both}, false, 0, Decision{Reason: ReasonRead}},
		"recalled meanwhile":         {text, Recipient{Recalled: true, Devices: both}, false, 0, Decision{Reason: ReasonRecalled}},
		"the recall itself":          {recall(chat.PushOptions{}), Recipient{Recalled: true, Devices: both}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"no device":                  {text, Recipient{}, false, 0, Decision{Reason: ReasonNoDevice}},
		"not at all before whom":     {message("RC:TxtMsg", chat.Open, chat.PushOptions{}), Recipient{Banned: true}, false, 0, Decision{Reason: ReasonChannel}},

		"a day later":              {text, Recipient{Devices: both}, false, 24 * time.Hour, Decision{Reason: ReasonLate}},
		"almost a day later":       {text, Recipient{Devices: both}, false, 24*time.Hour - 1, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"a call, a minute later":   {call, Recipient{Devices: both}, false, time.Minute, Decision{Reason: ReasonLate}},
		"a call in time":           {call, Recipient{Devices: both}, false, 10 * time.Second, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"a silent one, a bit late": {silent, Recipient{Devices: both}, false, time.Minute, Decision{Reason: ReasonLate}},

		"a browser, like a phone":     {text, Recipient{Devices: []chat.PushDevice{browser, phone}}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"a browser, and phones too":   {text, Recipient{Reach: Desk, Devices: []chat.PushDevice{browser, phone}}, true, 0, Decision{Alert, ReasonAway, []Effect{None, Alert}}},
		"a browser alone, at a desk":  {text, Recipient{Reach: Desk, Devices: []chat.PushDevice{browser}}, true, 0, Decision{Reason: ReasonDesktop}},
		"silent is not for a browser": {silent, Recipient{Devices: []chat.PushDevice{browser}}, false, 0, Decision{Reason: ReasonShows}},

		"silent is for Apple's":      {silent, Recipient{Devices: both}, false, 0, Decision{Silent, ReasonAway, []Effect{None, Silent}}},
		"silent and none of Apple's": {silent, Recipient{Devices: []chat.PushDevice{phone}}, false, 0, Decision{Reason: ReasonShows}},

		"everything":                     {group(carol), Recipient{Devices: both, Notify: at(chat.NotifyAll)}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"nothing set":                    {group(carol), Recipient{Devices: both}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"mentions, of none":              {text, Recipient{Devices: both, Notify: at(chat.NotifyMentions)}, false, 0, Decision{Reason: ReasonLevel}},
		"mentions, of me":                {group(bob), Recipient{Devices: both, Notify: at(chat.NotifyMentions)}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"mentions, of all":               {group(all), Recipient{Devices: both, Notify: at(chat.NotifyMentions)}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"mentions, of somebody":          {group(carol), Recipient{Devices: both, Notify: at(chat.NotifyMentions)}, false, 0, Decision{Reason: ReasonLevel}},
		"mentions of me, of me":          {group(bob), Recipient{Devices: both, Notify: at(chat.NotifyMentionsOfMe)}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"mentions of me, of all":         {group(all), Recipient{Devices: both, Notify: at(chat.NotifyMentionsOfMe)}, false, 0, Decision{Reason: ReasonLevel}},
		"mentions of all, of all":        {group(all), Recipient{Devices: both, Notify: at(chat.NotifyMentionsOfAll)}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"mentions of all, of me":         {group(bob), Recipient{Devices: both, Notify: at(chat.NotifyMentionsOfAll)}, false, 0, Decision{Reason: ReasonLevel}},
		"nothing":                        {group(all), Recipient{Devices: both, Notify: at(chat.NotifyNothing)}, false, 0, Decision{Reason: ReasonLevel}},
		"nothing, silently":              {silent, Recipient{Devices: both, Notify: at(chat.NotifyNothing)}, false, 0, Decision{Reason: ReasonLevel}},
		"mentions in a direct channel":   {func() *chat.Message { m := group(bob); m.ChannelType = chat.Direct; return m }(), Recipient{Devices: both, Notify: at(chat.NotifyMentions)}, false, 0, Decision{Reason: ReasonLevel}},
		"quiet hours":                    {text, Recipient{Devices: both, Notify: chat.NotifyRules{Quiet: quiet(8, 20, chat.NotifyNothing), Channel: chat.NotifyAll}}, false, 0, Decision{Reason: ReasonQuiet}},
		"quiet hours that are over":      {text, Recipient{Devices: both, Notify: chat.NotifyRules{Quiet: quiet(22, 7, chat.NotifyNothing)}}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"quiet hours, but for mentions":  {group(bob), Recipient{Devices: both, Notify: chat.NotifyRules{Quiet: quiet(8, 20, chat.NotifyMentions)}}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert, Alert}}},
		"quiet hours of one device":      {text, Recipient{Devices: []chat.PushDevice{quietPhone, apple}}, false, 0, Decision{Alert, ReasonAway, []Effect{None, Alert}}},
		"quiet hours of all devices":     {text, Recipient{Devices: []chat.PushDevice{quietPhone}}, false, 0, Decision{Reason: ReasonQuiet}},
		"a device's, but for mentions":   {group(bob), Recipient{Devices: []chat.PushDevice{mentionPhone}}, false, 0, Decision{Alert, ReasonAway, []Effect{Alert}}},
		"a device's, and not mentioned":  {group(carol), Recipient{Devices: []chat.PushDevice{mentionPhone}}, false, 0, Decision{Reason: ReasonQuiet}},
		"reached comes before the level": {text, Recipient{Reach: Phone, Devices: both, Notify: at(chat.NotifyNothing)}, false, 0, Decision{Reason: ReasonReached}},
		"the level before no device":     {text, Recipient{Notify: at(chat.NotifyNothing)}, false, 0, Decision{Reason: ReasonLevel}},
	} {
		c.r.ID = "bob"
		rules := &Rules{Enabled: true, DespiteDesktop: c.desk}
		got := Decide(NewSend(c.m), &c.r, rules, noon, noon.Add(-c.age))
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %s, %s, %v\nwant %s, %s, %v", name, got.Effect, got.Reason, got.Devices, c.want.Effect, c.want.Reason, c.want.Devices)
		}
	}
}

func TestReachOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cursors []Cursor
		want    Reach
	}{
		"nowhere":                              {nil, Away},
		"a phone that has it":                  {[]Cursor{{"ios", 10, false}}, Phone},
		"a phone that is ahead":                {[]Cursor{{"android", 11, false}}, Phone},
		"a phone that is behind":               {[]Cursor{{"ios", 9, false}}, Away},
		"a client that says not what it is":    {[]Cursor{{"", 10, false}}, Phone},
		"a browser":                            {[]Cursor{{"web", 10, false}}, Desk},
		"a browser in capitals":                {[]Cursor{{"Web", 10, false}}, Desk},
		"a browser that is behind":             {[]Cursor{{"web", 9, false}}, Away},
		"a browser, and a phone that is not":   {[]Cursor{{"web", 10, false}, {"ios", 9, false}}, Desk},
		"a browser, and a phone that is too":   {[]Cursor{{"web", 10, false}, {"ios", 10, false}}, Phone},
		"one of two phones":                    {[]Cursor{{"ios", 3, false}, {"android", 10, false}}, Phone},
		"a desktop and a mini-program, behind": {[]Cursor{{"desktop", 1, false}, {"miniprogram", 2, false}}, Away},
	} {
		if got := ReachOf(10, c.cursors); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestUndecided(t *testing.T) {
	t.Parallel()
	live := func(platform string, offset uint64) Cursor { return Cursor{platform, offset, true} }
	for name, c := range map[string]struct {
		cursors       []Cursor
		want, despite bool // the second with DespiteDesktop
	}{
		"nobody is there":                      {nil, false, false},
		"somebody was, and behind":             {[]Cursor{{"ios", 9, false}}, false, false},
		"a phone that is behind":               {[]Cursor{live("ios", 9)}, true, true},
		"a phone that has it":                  {[]Cursor{live("ios", 10)}, false, false},
		"one phone has it and another is not":  {[]Cursor{live("ios", 10), live("ios", 9)}, false, false},
		"a browser that is behind":             {[]Cursor{live("web", 9)}, true, false},
		"a browser that has it":                {[]Cursor{live("web", 10)}, false, false},
		"a browser has it, a phone is behind":  {[]Cursor{live("web", 10), live("ios", 9)}, false, true},
		"a browser has it, another is behind":  {[]Cursor{live("web", 10), live("web", 9)}, false, false},
		"both are behind":                      {[]Cursor{live("web", 9), live("ios", 9)}, true, true},
		"a phone had it that is not there now": {[]Cursor{{"ios", 10, false}, live("web", 9)}, false, false},
	} {
		if got := Undecided(10, c.cursors, &Rules{}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		if got := Undecided(10, c.cursors, &Rules{DespiteDesktop: true}); got != c.despite {
			t.Errorf("%s, despite desktops: %t", name, got)
		}
	}
}

// A send by tags or app package notifies on the platforms that it names.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	all := []chat.PushDevice{{Provider: chat.APNs}, {Provider: chat.OHOS}, {Provider: chat.FCM}, {Provider: chat.VIVO}, {Provider: chat.WEB}}
	for more, want := range map[string]string{
		``:                                 "22222",
		`{}`:                               "22222",
		`{"platform":[]}`:                  "22222",
		`{"platform":["iOS"],"ios":{}}`:    "20000",
		`{"platform":["Android"]}`:         "00220",
		`{"platform":["harmonyOS","ios"]}`: "22000",
		`{"platform":["WEB"]}`:             "00002",
		`{"platform":["miniprogram"]}`:     "",
	} {
		s := NewSend(&chat.Message{ChannelType: chat.System, Flags: chat.Missed | chat.Pushed, Push: chat.PushOptions{More: more}})
		d := Decide(s, &Recipient{ID: "bob", Devices: all}, &Rules{Enabled: true}, time.Unix(1, 0), time.Unix(1, 0))
		got := ""
		for _, e := range d.Devices {
			got += string('0' + rune(e))
		}
		if got != want || (d.Reason == ReasonNoDevice) != (want == "") {
			t.Errorf("%s: %s, %s, want %s", more, got, d.Reason, want)
		}
	}
}

// The numbers are stored.
func TestReasonNumbers(t *testing.T) {
	t.Parallel()
	words := []string{
		"push_off", "channel_type", "event", "ephemeral", "disabled", "no_text", "copy", "deleted", "banned", "reached",
		"reached_desktop", "read", "recalled", "late", "quiet_hours", "level", "no_device", "nothing_to_show", "away", "no_credential",
		"broadcast",
	}
	for i, r := range Reasons() {
		if i >= len(words) || int(r) != i || r.String() != words[i] {
			t.Errorf("%d is %s", i, r)
		}
	}
	if n := len(Reasons()); n != len(words) || Reason(n).String() != "unknown" || ReasonNoCredential.String() != "no_credential" || ReasonAway.String() != "away" {
		t.Errorf("%d reasons", n)
	}
}

func TestReadMention(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Mention{
		`{"content":"x"}`: {},
		`mentionedInfo`:   {},
		`{"mentionedInfo":{"type":1,"userIdList":["bob"],"mentionedContent":"hey"}}`: {All: true, Content: "hey"},
		`{"mentionedInfo":{"type":"2","userIdList":["bob","carol"]}}`:                {Users: []string{"bob", "carol"}},
		`{"mentionedInfo":{"type":2,"userIdList":"bob","mentionedContent":7}}`:       {},
		`{"mentionedInfo":{"type":3,"userIdList":["bob"]}}`:                          {},
		`{"mentionedInfo":[1]}`:                        {},
		`{"mentionedInfo":null}`:                       {},
		`{"mentionedInfo":{`:                           {},
		`{"content":"\"mentionedInfo\":{\"type\":1}"}`: {},
	} {
		got := ReadMention(text)
		if got.All != want.All || got.Content != want.Content || !slices.Equal(got.Users, want.Users) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

// The words are in traces: they never change.
func TestReasonWords(t *testing.T) {
	t.Parallel()
	want := []string{
		"push_off", "channel_type", "event", "ephemeral", "disabled", "no_text", "copy", "deleted", "banned", "reached",
		"reached_desktop", "read", "recalled", "late", "quiet_hours", "level", "no_device", "nothing_to_show", "away",
	}
	for r := range ReasonAway + 1 {
		if r.String() != want[r] {
			t.Errorf("%d is %s", r, r)
		}
	}
	if len(want) != int(ReasonAway)+1 {
		t.Errorf("%d reasons have words", len(want))
	}
}

// A message becomes what its recipient's device is told.
func TestNotification(t *testing.T) {
	t.Parallel()
	uid := chat.NewUID(noon.UnixMilli(), chat.Direct, 1, 1)
	rules := &Rules{Enabled: true, Lifetime: 48 * time.Hour}
	m := message("RC:TxtMsg", chat.Direct, chat.PushOptions{Data: "d", HasBadge: true, Badge: 7, ContentAvailable: true, Ext: `{"title":"Hi"}`})
	s := NewSend(m)
	got := s.Notification(1, uid, "alice", apple, Alert, noon, rules, &Words{Send: s, User: "bob", Sender: "Alice"})
	want := Notification{
		App: 1, UID: uid, User: "bob", To: apple, From: "alice", Type: "RC:TxtMsg", ChannelType: chat.Direct, Channel: "alice",
		Title: "Hi", Body: "Hello", Data: "d", ContentAvailable: true, Badge: 7, HasBadge: true, Expires: noon.Add(48 * time.Hour), Ext: s.Ext,
	}
	if got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	m.Push.Badge = chat.MinBadge
	if got := s.Notification(1, uid, "alice", apple, Alert, noon, rules, &Words{Send: s}); got.HasBadge {
		t.Error("-1 sets the badge")
	}
	if got := s.Notification(1, uid, "alice", apple, Silent, noon, rules, &Words{Send: s}); got.Body != "" || got.Title != "" || !got.Silent || got.Expires != noon.Add(time.Minute) {
		t.Errorf("silent: %+v", got)
	}
	s = NewSend(recall(chat.PushOptions{}))
	if got := s.Notification(1, uid, "alice", apple, Alert, noon, rules, &Words{Send: s, Sender: "Alice"}); got.Removes != s.Message.Event.UID || got.Type != Recall || got.Body != "Alice recalled a message" {
		t.Errorf("recall: %+v", got)
	}
}
