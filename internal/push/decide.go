package push

import (
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Reason says why somebody is notified, or why not. Its words are in traces and
// metrics: never change one. Its numbers are stored, a byte for each recipient: a
// new one comes last, and none changes its place.
type Reason uint8

// The reasons, up to ReasonAway in the order in which they are looked for: the
// first that holds is told.
const (
	// Of the message, the same for all recipients.

	// ReasonOff apps have push neither set up nor switched on.
	ReasonOff Reason = iota
	// ReasonChannel is of open channels, which never push.
	ReasonChannel
	// ReasonEvent is of what happens to messages and channels, recalls excepted.
	ReasonEvent
	// ReasonEphemeral types do not wait for who is offline.
	ReasonEphemeral
	// ReasonDisabled messages were sent with disablePush.
	ReasonDisabled
	// ReasonNoText types notify only with a pushContent.
	ReasonNoText

	// Of the recipient.

	// ReasonCopy is the sender's own copy.
	ReasonCopy
	// ReasonDeleted users are soft-deleted.
	ReasonDeleted
	// ReasonBanned users are banned.
	ReasonBanned
	// ReasonReached users acknowledged the message on a connection.
	ReasonReached
	// ReasonDesktop users did so where they sit at a desk, which is enough.
	ReasonDesktop
	// ReasonRead messages were read, deleted or cleared away meanwhile.
	ReasonRead
	// ReasonRecalled messages were recalled meanwhile.
	ReasonRecalled
	// ReasonLate messages would come too late to be of use.
	ReasonLate
	// ReasonQuiet is of the quiet hours of the user, or of every device of theirs.
	ReasonQuiet
	// ReasonLevel is of the notification level in force.
	ReasonLevel
	// ReasonNoDevice users have no device registered.
	ReasonNoDevice
	// ReasonShows is of messages with nothing to show, for devices that cannot be
	// woken without.
	ReasonShows

	// ReasonAway users are notified: none of their devices has the message.
	ReasonAway

	// ReasonNoCredential users are away, and the app has nothing to push to any of
	// their devices with.
	ReasonNoCredential
	// ReasonBroadcast is of what users are given of a broadcast later on: those who
	// were to be notified of it were when it came.
	ReasonBroadcast
)

var reasonWords = [...]string{
	"push_off", "channel_type", "event", "ephemeral", "disabled", "no_text", "copy", "deleted", "banned", "reached",
	"reached_desktop", "read", "recalled", "late", "quiet_hours", "level", "no_device", "nothing_to_show", "away",
	"no_credential", "broadcast",
}

// String is the reason's word. One of a later release is not known.
func (r Reason) String() string {
	if int(r) < len(reasonWords) {
		return reasonWords[r]
	}
	return "unknown"
}

// OfMessage reports whether the reason follows from the message alone.
func (r Reason) OfMessage() bool { return r <= ReasonNoText }

// Reasons are all there are.
func Reasons() []Reason {
	list := make([]Reason, len(reasonWords))
	for i := range list {
		list[i] = Reason(i)
	}
	return list
}

// An Effect is what a notification does on a device.
type Effect uint8

// The effects.
const (
	None   Effect = iota
	Silent        // wakes the app and shows nothing
	Alert         // is shown
)

var effectWords = [...]string{"none", "silent", "alert"}

// String is the effect's word.
func (e Effect) String() string { return effectWords[e] }

// Rules are what an app has set about push.
type Rules struct {
	Enabled        bool
	DespiteDesktop bool          // phones are notified although the user is reached at a desk
	Language       string        // of those whose own is not known; English when empty
	Lifetime       time.Duration // after which nobody is notified any more
}

// RulesOf are the rules that an app has set. Whether it has credentials is another
// thing.
func RulesOf(s *chat.Settings) Rules {
	return Rules{
		Enabled: s.Push, DespiteDesktop: s.PushDespiteDesktop, Language: s.PushLanguage, Lifetime: s.PushLifetime,
	}
}

// A Send is a message as far as push is concerned, the same for all recipients.
type Send struct {
	Message *chat.Message
	Ext     *Ext
	Mention Mention
	// Platforms, when there are any, are those whose devices are notified.
	Platforms []string
}

// NewSend reads what push needs of a message. A pushExt that cannot be read was
// stored by a release that knew more, and is none.
func NewSend(m *chat.Message) *Send {
	s := &Send{Message: m, Ext: &noExt}
	if m.Push.Ext != "" {
		if ext, err := ParseExt("pushExt", m.Push.Ext); err == nil {
			s.Ext = ext
		}
	}
	if m.Push.More != "" {
		var more struct {
			Platforms []string `json:"platform"`
		}
		if ReadJSON([]byte(m.Push.More), &more) {
			s.Platforms = more.Platforms
		}
		if ext, err := s.Ext.WithPlatforms(m.Push.More); err == nil {
			s.Ext = ext
		}
	}
	if m.ChannelType == chat.Group || m.ChannelType == chat.Community {
		s.Mention = ReadMention(m.Content)
	}
	return s
}

// Recall is the type as which clients know the recall of a message.
const Recall = "RC:RcCmd"

// Type is the message's type, and that of a recall for one.
func (s *Send) Type() string {
	if e := s.Message.Event; e != nil && e.Kind == chat.EventRecall {
		return Recall
	}
	return s.Message.Type
}

// Decide is what the message does for whoever it reaches: nothing for anybody, for
// the reason given, or ReasonAway.
func (s *Send) Decide(rules *Rules) (Effect, Reason) {
	m := s.Message
	flags := m.Flags
	if s.Type() == Recall {
		flags = chat.Missed | chat.Pushed
	}
	switch {
	case !rules.Enabled:
		return None, ReasonOff
	case m.ChannelType == chat.Open:
		return None, ReasonChannel
	case m.Event != nil && s.Type() != Recall:
		return None, ReasonEvent
	case flags&chat.Missed == 0:
		return None, ReasonEphemeral
	case m.Push.Disabled:
		return None, ReasonDisabled
	case m.Push.Content != "" || flags&chat.Pushed != 0 || s.Ext.alerts():
		return Alert, ReasonAway
	case m.Push.ContentAvailable:
		return Silent, ReasonAway
	}
	return None, ReasonNoText
}

// A Recipient is somebody to be notified or not.
type Recipient struct {
	ID       string
	Copy     bool // it is the sender's own copy
	Deleted  bool
	Banned   bool
	Reach    Reach // when the grace was over
	Read     bool
	Recalled bool
	Notify   chat.NotifyRules
	Devices  []chat.PushDevice
}

// A Decision says what a message does for one recipient, and why.
type Decision struct {
	Effect  Effect // the strongest on any device
	Reason  Reason
	Devices []Effect // by the recipient's devices; nil when it is None for all
}

// Decide says whether the message notifies the recipient, where, and why or why
// not. It depends on nothing but what it is given.
func Decide(s *Send, r *Recipient, rules *Rules, now time.Time, sentAt time.Time) Decision {
	effect, reason := s.Decide(rules)
	if effect == None {
		return Decision{Reason: reason}
	}
	life := Lifetime(s.Type(), effect, rules.Lifetime)
	switch {
	case r.Copy:
		return Decision{Reason: ReasonCopy}
	case r.Deleted:
		return Decision{Reason: ReasonDeleted}
	case r.Banned:
		return Decision{Reason: ReasonBanned}
	case r.Reach == Phone:
		return Decision{Reason: ReasonReached}
	case r.Reach == Desk && !rules.DespiteDesktop:
		return Decision{Reason: ReasonDesktop}
	case r.Read:
		return Decision{Reason: ReasonRead}
	case r.Recalled && s.Type() != Recall:
		return Decision{Reason: ReasonRecalled}
	case life > 0 && now.Sub(sentAt) >= life:
		return Decision{Reason: ReasonLate}
	}
	// Quiet is asked for what it is: the levels alone would not say which of the
	// two it was.
	quiet := r.Notify.Quiet != nil && r.Notify.Quiet.At(now)
	if !s.Mention.passes(r.Notify.At(now), r.ID) {
		if quiet {
			return Decision{Reason: ReasonQuiet}
		}
		return Decision{Reason: ReasonLevel}
	}
	if len(r.Devices) == 0 {
		return Decision{Reason: ReasonNoDevice}
	}
	d := Decision{Devices: make([]Effect, len(r.Devices))}
	for i := range r.Devices {
		at := &r.Devices[i]
		switch {
		case len(s.Platforms) > 0 && !slices.ContainsFunc(s.Platforms, func(name string) bool { return slices.Contains(platformsOf(at.Provider), strings.ToLower(name)) }):
			reason = ReasonNoDevice
		case at.Quiet != nil && at.Quiet.At(now) && !s.Mention.passes(at.Quiet.Level, r.ID):
			reason = ReasonQuiet
		case r.Reach == Desk && at.Provider == chat.WEB:
			reason = ReasonDesktop // it is there that they have it
		case effect == Silent && at.Provider != chat.APNs: // contentAvailable is promised of Apple's alone
			reason = ReasonShows
		case effect == Alert && !s.saysTo(at.Provider):
			reason = ReasonShows
		default:
			d.Devices[i] = effect
			d.Effect = effect
		}
	}
	d.Reason = reason
	if d.Effect == None {
		d.Devices = nil
	} else {
		d.Reason = ReasonAway
	}
	return d
}

// saysTo reports whether a message that is shown has a text for the devices of a
// provider: there may be one for those of other platforms alone.
func (s *Send) saysTo(p chat.PushProvider) bool {
	m := s.Message
	return m.Push.Content != "" || m.Flags&chat.Pushed != 0 || s.Type() == Recall || s.Ext.notice(p).Alert != ""
}

// platformsOf are the names under which senders know the devices of a provider.
func platformsOf(p chat.PushProvider) []string {
	switch p {
	case chat.APNs:
		return []string{"ios", "iphone", "ipad"}
	case chat.OHOS:
		return []string{"harmonyos", "harmony", "ohos"}
	case chat.WEB:
		return []string{"web", "browser"}
	}
	return []string{"android"}
}

// callLife is how long a phone may ring for a call that was announced.
const callLife = time.Minute

// Lifetime is for how long after it was sent a message of the type is worth a
// notification, where the app has it at life.
func Lifetime(messageType string, effect Effect, life time.Duration) time.Duration {
	if life <= 0 {
		life = DefaultTTL
	}
	if effect == Silent || strings.HasPrefix(messageType, "RC:VC") { // RC:VcMsg is none of them
		return min(life, callLife)
	}
	return life
}

// A Reach says where a user has acknowledged a message.
type Reach uint8

// The places, the one that counts most last.
const (
	Away Reach = iota
	Desk       // in a browser or on a desktop
	Phone
)

// A Cursor is how far one of a user's devices has acknowledged their timeline.
type Cursor struct {
	Platform string // as the client gave it; may be empty
	Offset   uint64
	Live     bool // it is of a connection that is there
}

// ReachOf says where a user has acknowledged the entry at offset. A connection
// alone is no reach: the line may be dead, and what went into it lost. A pong
// moves the cursor as an acknowledgement does.
func ReachOf(offset uint64, cursors []Cursor) Reach {
	reach := Away
	for _, c := range cursors {
		switch {
		case c.Offset < offset:
		case c.desk():
			reach = max(reach, Desk)
		default:
			return Phone
		}
	}
	return reach
}

// Undecided reports whether a connection that is there and has not acknowledged
// the entry at offset could still make up for a notification: any of them, or where
// the user was reached at a desk and that is not enough, any that is not at one.
func Undecided(offset uint64, cursors []Cursor, rules *Rules) bool {
	reach := ReachOf(offset, cursors)
	if reach == Phone || reach == Desk && !rules.DespiteDesktop {
		return false
	}
	for i := range cursors {
		if c := &cursors[i]; c.Live && c.Offset < offset && !(rules.DespiteDesktop && c.desk()) {
			return true
		}
	}
	return false
}

func (c *Cursor) desk() bool { return slices.Contains(desks, strings.ToLower(c.Platform)) }

// desks are platforms whose users may have their phones elsewhere.
var desks = []string{"web", "desktop", "pc", "windows", "macos", "mac", "linux", "electron", "miniprogram"}

// A Mention is whom a message mentions.
type Mention struct {
	All     bool
	Users   []string
	Content string // what those who are mentioned are notified with
}

// Of reports whether the user is mentioned, by name or with everybody.
func (m *Mention) Of(user string) bool { return m.All || slices.Contains(m.Users, user) }

// passes reports whether the message notifies the user at this level.
func (m *Mention) passes(level chat.NotifyLevel, user string) bool {
	switch level {
	case chat.NotifyMentions:
		return m.Of(user)
	case chat.NotifyMentionsOfMe:
		return slices.Contains(m.Users, user)
	case chat.NotifyMentionsOfAll:
		return m.All
	case chat.NotifyNothing:
		return false
	}
	return true
}

// ReadMention reads the mentionedInfo of a message's content. Contents are the
// clients' business and may be anything; what is no mention mentions nobody.
func ReadMention(content string) Mention {
	if !strings.Contains(content, `"mentionedInfo"`) {
		return Mention{}
	}
	var c struct {
		Info Loose `json:"mentionedInfo"`
	}
	var info struct {
		Type    Code  `json:"type"`
		Users   Loose `json:"userIdList"`
		Content Loose `json:"mentionedContent"`
	}
	if !ReadJSON([]byte(content), &c) || jsontext.Value(c.Info).Kind() != '{' || !c.Info.Into(&info) {
		return Mention{}
	}
	var m Mention
	switch info.Type {
	case "1":
		m.All = true
	case "2":
		if !info.Users.Into(&m.Users) {
			m.Users = nil
		}
	default:
		return Mention{}
	}
	if !info.Content.Into(&m.Content) {
		m.Content = ""
	}
	return m
}
