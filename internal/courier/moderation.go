package courier

import (
	"cmp"
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// MaxOpenListed is how many users or types one change of a list may name.
const MaxOpenListed = 20

// An OpenList is one of the lists that an open channel has, or an app for all of
// its open channels.
type OpenList uint8

// The lists.
const (
	MutedHere       OpenList = iota // who cannot write in the channel for a time
	BannedHere                      // who cannot be in it for a time
	MutedInAll                      // who cannot write in any of the app's
	AllowedSenders                  // who can write in spite of mutes and freezes
	PrioritySenders                 // whose messages are allowlisted, and who stay when they are away
	PriorityTypes                   // of messages that are allowlisted
	LowTypes                        // of messages that are low unless something else is said
)

// An openList is what is to be known of a list. It has restrictions or marks.
type openList struct {
	ofApp bool
	types bool // of messages, not users
	most  int
	event chat.EventKind // that tells of changes; 0 when nobody is told

	restrictions func(*chat.OpenChannel) map[string]chat.Restriction
	marks        func(*chat.OpenChannel) map[string]int64
}

var openLists = [...]openList{
	MutedHere: {most: chat.MaxRestricted, event: chat.EventMute,
		restrictions: func(c *chat.OpenChannel) map[string]chat.Restriction { return c.Muted }},
	BannedHere: {most: chat.MaxRestricted, event: chat.EventBan,
		restrictions: func(c *chat.OpenChannel) map[string]chat.Restriction { return c.Banned }},
	MutedInAll: {ofApp: true, most: chat.MaxRestricted, event: chat.EventMute,
		restrictions: func(c *chat.OpenChannel) map[string]chat.Restriction { return c.Muted }},
	AllowedSenders: {most: chat.MaxAllowed, event: chat.EventAllow,
		marks: func(c *chat.OpenChannel) map[string]int64 { return c.Allowed }},
	PrioritySenders: {most: chat.MaxPrioritySenders,
		marks: func(c *chat.OpenChannel) map[string]int64 { return c.Priority }},
	PriorityTypes: {ofApp: true, types: true, most: chat.MaxDeclaredTypes,
		marks: func(c *chat.OpenChannel) map[string]int64 { return c.PriorityTypes }},
	LowTypes: {ofApp: true, types: true, most: chat.MaxDeclaredTypes,
		marks: func(c *chat.OpenChannel) map[string]int64 { return c.LowTypes }},
}

func (l *openList) field() string {
	if l.types {
		return "messageTypes"
	}
	return "participantIds"
}

// A Notice says whether those concerned are to be told, and what goes with it.
type Notice struct {
	Wanted bool
	Extra  string
}

func (n *Notice) check() error {
	if got := utf8.RuneCountInString(n.Extra); got > chat.MaxNotice {
		return chat.TooLong("extra", chat.MaxNotice, got, "characters")
	}
	return nil
}

// An OpenListChange puts users or types on a list, or takes them off it.
type OpenListChange struct {
	List    OpenList
	Channel string // of no matter in the lists of an app
	Names   []string
	Add     bool
	Minutes int64 // for which a restriction holds, from now on
	Notice  Notice
}

func (q *OpenListChange) check(app *chat.App, l *openList) error {
	if l.ofApp {
		q.Channel = ""
	} else if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if len(q.Names) == 0 {
		return chat.Invalid(l.field(), "is required")
	}
	name := chat.CheckID
	if l.types {
		name = func(field, t string) error {
			if !q.Add { // of a type that is not taken any more
				return nil
			}
			_, err := app.Settings.Type(field, t)
			return err
		}
	}
	if err := checkNames(l.field(), MaxOpenListed, q.Names, name); err != nil {
		return err
	}
	const most = int64(chat.MaxRestriction / time.Minute)
	if q.Add && l.restrictions != nil && (q.Minutes < 1 || q.Minutes > most) {
		return chat.Invalidf("durationMinutes", "from 1 to %d, got %d", most, q.Minutes)
	}
	return q.Notice.check()
}

// ChangeOpenList changes a list, durably, and then sees to it that it is so for
// those who are there.
func (c *Courier) ChangeOpenList(ctx context.Context, app *chat.App, q *OpenListChange) error {
	l := &openLists[q.List]
	if err := q.check(app, l); err != nil {
		return err
	}
	now := c.now()
	until := int64(0)
	if q.Add && l.restrictions != nil {
		until = now.Add(time.Duration(q.Minutes) * time.Minute).UnixMilli()
	}
	var changed []string
	return c.changeOpen(ctx, app, q.Channel, q.Add, func(ch *chat.OpenChannel) error {
		for _, name := range q.Names {
			if l.put(ch, name, q.Add, now.UnixMilli(), until) {
				changed = append(changed, name)
			}
		}
		if n := l.len(ch); q.Add && n > l.most {
			return tooMany(l.field(), l.most, n)
		}
		return nil
	}, func() {
		if q.List == BannedHere && q.Add {
			// Also those who were banned before: that call may have come to nothing
			// after the ban was kept.
			c.rooms.Evict(room.Key{App: app.ID, Channel: q.Channel}, room.Barred, q.Names...)
		}
		if l.event != 0 && q.Notice.Wanted && len(changed) > 0 {
			c.notify(app, q.Channel, l.event, chat.RoomNews{On: q.Add, Users: changed, Until: until, Extra: q.Notice.Extra})
		}
	})
}

// changeOpen changes what is known of an open channel, and then does what follows
// from it before there is another change to tell of. Where there is no channel,
// one is made to be added to, but for apps that are strict; nothing can be taken
// away from it.
func (c *Courier) changeOpen(ctx context.Context, app *chat.App, id string, add bool, change func(*chat.OpenChannel) error, then func()) error {
	end, err := turn.Take(ctx, c.telling, room.Key{App: app.ID, Channel: id})
	if err != nil {
		return err
	}
	defer end()
	strict := app.Settings.OpenStrict
	_, err = c.open.ChangeOpenChannel(ctx, app, id, (add && !strict) || id == "", change)
	switch {
	case !add && !strict && chat.KindOf(err) == chat.KindNoOpenChannel:
		return nil
	case err != nil:
		return err
	}
	then()
	return nil
}

// put makes the list have the name or not, and reports whether that is new.
func (l *openList) put(ch *chat.OpenChannel, name string, on bool, now, until int64) bool {
	if l.marks != nil {
		m := l.marks(ch)
		_, was := m[name]
		switch {
		case !on:
			delete(m, name)
		case !was:
			m[name] = now
		}
		return was != on
	}
	m := l.restrictions(ch)
	r, was := m[name]
	switch {
	case !on:
		delete(m, name)
		return was
	case !was:
		r.Since = now
	case r.Until == until:
		return false
	}
	r.Until = until
	m[name] = r
	return true
}

func (l *openList) len(ch *chat.OpenChannel) int {
	if l.marks != nil {
		return len(l.marks(ch))
	}
	return len(l.restrictions(ch))
}

// An OpenListed is one entry of a list.
type OpenListed struct {
	Name  string
	Since int64 // Unix ms
	Until int64 // of a restriction, Unix ms
}

// OpenListed is a list, those who have been on it for the longest first.
func (c *Courier) OpenListed(ctx context.Context, app *chat.App, which OpenList, channel string) (list []OpenListed, err error) {
	l := &openLists[which]
	var ch *chat.OpenChannel
	if l.ofApp {
		ch, err = c.open.OpenChannel(ctx, app.ID, "")
	} else {
		ch, err = c.peek(ctx, app, channel)
	}
	if err != nil {
		return nil, err
	}
	if l.marks != nil {
		for name, at := range l.marks(ch) {
			list = append(list, OpenListed{name, at, 0})
		}
	} else {
		now := c.now()
		for name, r := range l.restrictions(ch) {
			if r.Holds(now) {
				list = append(list, OpenListed{name, r.Since, r.Until})
			}
		}
	}
	slices.SortFunc(list, func(a, b OpenListed) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}

// FreezeOpen says whether only allowed senders may write to an open channel.
func (c *Courier) FreezeOpen(ctx context.Context, app *chat.App, channel string, on bool, n Notice) error {
	if err := chat.CheckID("channelId", channel); err != nil {
		return err
	}
	if err := n.check(); err != nil {
		return err
	}
	changed := false
	return c.changeOpen(ctx, app, channel, on, func(ch *chat.OpenChannel) error {
		changed = ch.Frozen != on
		ch.Frozen = on
		return nil
	}, func() {
		if changed && n.Wanted {
			c.notify(app, channel, chat.EventFreeze, chat.RoomNews{On: on, Extra: n.Extra})
		}
	})
}

// OpenFrozen reports whether an open channel is frozen.
func (c *Courier) OpenFrozen(ctx context.Context, app *chat.App, channel string) (bool, error) {
	ch, err := c.peek(ctx, app, channel)
	return err == nil && ch.Frozen, err
}

// FrozenOpen are the frozen open channels, up to limit of them behind the first
// skip.
func (c *Courier) FrozenOpen(ctx context.Context, app *chat.App, skip, limit int) ([]string, error) {
	return c.open.ListOpenChannels(ctx, app.ID, store.OpenFrozen, skip, limit)
}

// notify tells everybody in the channel, in its place among what is said there. Of
// what holds in all channels only those concerned are told, each of themselves.
func (c *Courier) notify(app *chat.App, channel string, kind chat.EventKind, news chat.RoomNews) {
	if channel != "" {
		c.announce(app.ID, channel, &chat.Event{Kind: kind, Room: &news}, nil)
		return
	}
	news.All = true
	for _, user := range news.Users {
		own := news
		own.Users = []string{user}
		m := &chat.Message{App: app.ID, ChannelType: chat.Open, Event: &chat.Event{Kind: kind, At: c.now().UnixMilli(), Room: &own}}
		c.sessions.Whisper(app.ID, user, m, chat.UID{}, "")
	}
}
