package chat

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	// Zones of quiet hours must be known also where the system has no list of
	// them, such as in a container that holds the binary alone.
	_ "time/tzdata"
)

// Preferences are what a user has set for all of their channels. They are kept
// apart from the [User], who is read with every message a client sends.
// Preferences in hand are immutable; a change makes new ones.
type Preferences struct {
	Levels map[ChannelType]NotifyLevel // none is NotifyUnset
	Quiet  *QuietHours                 // nil for none
	Tags   []Tag                       // in the order in which they were made
}

// IsZero reports whether the user has set nothing.
func (p *Preferences) IsZero() bool { return len(p.Levels) == 0 && p.Quiet == nil && len(p.Tags) == 0 }

// Bounds of the tags that users put on their channels
// (channel/channel-tag/user-conversation-tag-set, conversation-tag-set).
const (
	MaxTags        = 20   // of a user
	MaxTagID       = 10   // characters
	MaxTagName     = 15   // characters
	MaxTagChannels = 1000 // with one tag; beyond that those tagged first lose it
	MaxTagPerCall  = 100  // channels
)

// A Tag is one that a user has made for their own channels.
type Tag struct {
	ID   string
	Name string
	At   int64 // Unix ms: when it was made
}

// CheckTagID says whether a tag may have this id. The error names field.
func CheckTagID(field, id string) error { return checkTagText(field, id, MaxTagID) }

// CheckTagName says whether a tag may have this name. The error names field.
func CheckTagName(field, name string) error { return checkTagText(field, name, MaxTagName) }

func checkTagText(field, s string, limit int) error {
	switch n := utf8.RuneCountInString(s); {
	case s == "":
		return Invalid(field, "is required")
	case n > limit:
		return TooLong(field, limit, n, "characters")
	case !utf8.ValidString(s):
		return Invalid(field, "must be valid UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Invalid(field, "must not contain control characters")
	}
	return nil
}

// A Channel is named by a type and an id, as one of its users sees it.
type Channel struct {
	Type ChannelType
	ID   string
}

// Subchannel is the id under which what a user has made of a part of a community
// is kept. Ids hold no spaces, so it is nobody else's.
func Subchannel(channel, sub string) string {
	if sub == "" {
		return channel
	}
	return channel + " " + sub
}

// CutSubchannel is the inverse of Subchannel.
func CutSubchannel(id string) (channel, sub string) {
	channel, sub, _ = strings.Cut(id, " ")
	return channel, sub
}

// QuietHours are the part of each day in which a user is notified less, by the
// clocks of a time zone.
type QuietHours struct {
	From, To int // minutes of the day; From is part of it and To is not. It may go past midnight
	Zone     string
	Level    NotifyLevel // what is in force meanwhile
}

const minutesOfDay = 24 * 60

// ParseQuietHours reads quiet hours as clients write them: times such as 22:00, a
// zone's name, UTC when it is empty, and a level, NotifyNothing when it is unset.
func ParseQuietHours(from, to, zone string, level NotifyLevel) (*QuietHours, error) {
	q := &QuietHours{Zone: zone, Level: level}
	var err error
	if q.From, err = parseClock("from", from); err != nil {
		return nil, err
	}
	if q.To, err = parseClock("to", to); err != nil {
		return nil, err
	}
	if q.From == q.To {
		return nil, Invalid("to", "must be another time than from")
	}
	if zone == "" {
		q.Zone = "UTC"
	}
	if _, err := time.LoadLocation(q.Zone); err != nil || q.Zone == "Local" || len(q.Zone) > maxZone {
		return nil, Invalid("timezone", "must be the name of a time zone, such as Europe/Berlin")
	}
	switch level {
	case NotifyUnset:
		q.Level = NotifyNothing
	case NotifyMentions, NotifyMentionsOfMe, NotifyMentionsOfAll, NotifyNothing:
	default:
		return nil, Invalidf("level", "one of 1, 2, 4, 5, got %d", level)
	}
	return q, nil
}

const maxZone = 64

func parseClock(field, text string) (minute int, err error) {
	if text == "" {
		return 0, Invalid(field, "is required")
	}
	h, errH := strconv.ParseUint(text[:min(2, len(text))], 10, 8)
	if errH == nil && len(text) == len("22:00") && text[2] == ':' {
		if m, err := strconv.ParseUint(text[3:], 10, 8); err == nil && h < 24 && m < 60 {
			return int(h*60 + m), nil
		}
	}
	return 0, Invalid(field, "must be a time of the day such as 22:00")
}

// Clock is a minute of the day as clients write it.
func Clock(minute int) string {
	minute %= minutesOfDay
	return fmt.Sprintf("%02d:%02d", minute/60, minute%60)
}

// At reports whether it is quiet at the given time. A zone that is not known any
// more is UTC.
func (q *QuietHours) At(now time.Time) bool {
	h, m, _ := now.In(zoneOf(q.Zone)).Clock()
	minute := h*60 + m
	if q.From < q.To {
		return q.From <= minute && minute < q.To
	}
	return minute >= q.From || minute < q.To
}

var zones sync.Map // by name: *time.Location

// zoneOf is the zone with the name, UTC when there is none. Reading one takes longer
// than all else that is asked of quiet hours, and they are asked per recipient.
func zoneOf(name string) *time.Location {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC // not kept: only names of zones are, which are not many
	}
	zones.Store(name, zone)
	return zone
}

// NotifyRules are the levels that have a say about one channel of a user.
type NotifyRules struct {
	Quiet      *QuietHours // the user's own; nil for none
	Subchannel NotifyLevel // of a part of a community
	Channel    NotifyLevel
	Type       NotifyLevel // the user's, for all channels of the type
	Community  NotifyLevel // the community's, for all of its users
	App        NotifyLevel
}

// At is the level in force at the given time: the first that is set, from what is
// the user's own and narrowest to what is everybody's. Where nothing is set, all
// notifies (notification/do-not-disturb-about).
func (r *NotifyRules) At(now time.Time) NotifyLevel {
	if r.Quiet != nil && r.Quiet.At(now) {
		return r.Quiet.Level
	}
	for _, l := range [...]NotifyLevel{r.Subchannel, r.Channel, r.Type, r.Community, r.App} {
		if l != NotifyUnset {
			return l
		}
	}
	return NotifyAll
}
