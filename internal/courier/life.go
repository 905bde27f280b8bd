package courier

import (
	"context"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// How many open channels, or users, one call may name. The number of users that
// can be asked about is documented, the others are ours.
const (
	MaxOpenNamed   = 100
	MaxOpenAllowed = 100
	MaxOpenAsked   = 1000
)

// An OpenSpec says what an open channel is to be. What it does not say is to stay
// as it is.
type OpenSpec struct {
	Channel string
	Ends    *chat.Ending
	Minutes *int64 // of its TTL
	Frozen  *bool
	Allowed []string // in addition to those who are
	Owner   string   // of Pairs
	Pairs   map[string]string
}

// CreateOpen makes an open channel. One that there is already keeps its life and
// who is in it, and takes on what is said: it may have been made by the first who
// entered, just before the call that says what it is to be.
func (c *Courier) CreateOpen(ctx context.Context, app *chat.App, q *OpenSpec) error {
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	return c.changeAndTell(ctx, app, q.Channel, true, func(ch *chat.OpenChannel) ([]*chat.Event, error) {
		q.end(ch)
		if q.Frozen != nil {
			ch.Frozen = *q.Frozen
		}
		now := c.now().UnixMilli()
		for _, user := range q.Allowed {
			if _, ok := ch.Allowed[user]; !ok {
				ch.Allowed[user] = now
			}
		}
		if n := len(ch.Allowed); n > chat.MaxAllowed {
			return nil, tooMany("allowedSendersList", chat.MaxAllowed, n)
		}
		pairs := PairsRequest{User: q.Owner, Set: q.Pairs}
		events, _, err := pairs.apply(ch, now, 0)
		return events, err
	})
}

// SetOpenEnding changes how an open channel ends by itself. Now that it ends
// otherwise its time may have come.
func (c *Courier) SetOpenEnding(ctx context.Context, app *chat.App, q *OpenSpec) error {
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	_, err := c.open.ChangeOpenChannel(ctx, app, q.Channel, false, func(ch *chat.OpenChannel) error {
		q.end(ch)
		return nil
	})
	return err
}

func (q *OpenSpec) end(ch *chat.OpenChannel) {
	if q.Ends != nil {
		ch.Ends = *q.Ends
	}
	if q.Minutes != nil {
		ch.TTL = time.Duration(*q.Minutes) * time.Minute
	}
}

func (q *OpenSpec) check() error {
	const low, high = int64(chat.MinOpenTTL / time.Minute), int64(chat.MaxOpenTTL / time.Minute)
	if q.Minutes != nil && (*q.Minutes < low || *q.Minutes > high) {
		return chat.Invalidf("ttlMinutes", "from %d to %d, got %d", low, high, *q.Minutes)
	}
	if err := checkNames("allowedSendersList", MaxOpenAllowed, q.Allowed, chat.CheckID); err != nil {
		return err
	}
	if q.Owner != "" || len(q.Pairs) > 0 {
		if err := chat.CheckID("metadataOwnerId", q.Owner); err != nil {
			return err
		}
	}
	return chat.CheckOpenPairs("metadata", chat.MaxOpenPairs, q.Pairs)
}

// checkNames says whether a call may name these. There need not be any.
func checkNames(field string, limit int, names []string, check func(field, name string) error) error {
	if n := len(names); n > limit {
		return chat.Invalidf(field, "at most %d items, got %d", limit, n)
	}
	for i, name := range names {
		if check("", name) != nil {
			return check(field+"["+strconv.Itoa(i)+"]", name)
		}
	}
	return nil
}

func tooMany(field string, most, got int) error {
	return chat.Invalidf(field, "at most %d on the list, these would be %d", most, got)
}

// errNoOpen says that there is no such open channel.
func errNoOpen(field string) error {
	return &chat.Error{Kind: chat.KindNoOpenChannel, Field: field, Rule: "no such open channel"}
}

// OpenNow is what is known of an open channel, and how many users are in it.
func (c *Courier) OpenNow(ctx context.Context, app *chat.App, id string) (ch *chat.OpenChannel, participants int, err error) {
	if err := chat.CheckID("channelId", id); err != nil {
		return nil, 0, err
	}
	ch, err = c.open.OpenChannel(ctx, app.ID, id)
	if err != nil {
		return nil, 0, err
	}
	if ch == nil {
		return nil, 0, errNoOpen("channelId")
	}
	return ch, c.rooms.Count(room.Key{App: app.ID, Channel: id}), nil
}

// peek is what is known of an open channel of which something is asked. In an app
// where channels come into being with their use, one that does not exist is one
// of which there is nothing to tell.
func (c *Courier) peek(ctx context.Context, app *chat.App, id string) (*chat.OpenChannel, error) {
	if err := chat.CheckID("channelId", id); err != nil {
		return nil, err
	}
	ch, err := c.open.OpenChannel(ctx, app.ID, id)
	if err != nil || ch != nil {
		return ch, err
	}
	if app.Settings.OpenStrict {
		return nil, errNoOpen("channelId")
	}
	return &chat.OpenChannel{ID: id}, nil
}

// A Participant is a user in an open channel, and since when.
type Participant = room.Participant

// Participants are the users in an open channel, up to limit of them, by when they
// came, and how many there are in all.
func (c *Courier) Participants(ctx context.Context, app *chat.App, id string, limit int, newestFirst bool) ([]Participant, int, error) {
	ch, err := c.peek(ctx, app, id)
	if err != nil || ch.CreatedAt == 0 {
		return nil, 0, err // those of a channel that has just ended are on their way out
	}
	list, total := c.rooms.Participants(room.Key{App: app.ID, Channel: id}, limit, newestFirst)
	return list, total, nil
}

// Here says of each of the users whether they are in the open channel.
func (c *Courier) Here(ctx context.Context, app *chat.App, id string, users []string) ([]bool, error) {
	if len(users) == 0 {
		return nil, chat.Invalid("participantIds", "is required")
	}
	if err := checkNames("participantIds", MaxOpenAsked, users, chat.CheckID); err != nil {
		return nil, err
	}
	ch, err := c.peek(ctx, app, id)
	if err != nil || ch.CreatedAt == 0 {
		return make([]bool, len(users)), err
	}
	return c.rooms.Here(room.Key{App: app.ID, Channel: id}, users), nil
}

// DestroyOpen ends the lives of open channels. Those that have none are as they
// should be.
func (c *Courier) DestroyOpen(ctx context.Context, app *chat.App, ids []string) error {
	if err := checkChannels(ids); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := c.EndOpenChannel(ctx, app.ID, id, nil); err != nil {
			return err
		}
	}
	return nil
}

func checkChannels(ids []string) error {
	if len(ids) == 0 {
		return chat.Invalid("channelIds", "is required")
	}
	return checkNames("channelIds", MaxOpenNamed, ids, chat.CheckID)
}

// A keepAliveList is that of an app, where one at a time may add to it.
type keepAliveList struct{ app chat.AppID }

// KeepAlive says of open channels whether they are kept from ending by themselves.
// One that is no more begins to be idle now.
func (c *Courier) KeepAlive(ctx context.Context, app *chat.App, ids []string, on bool) error {
	if err := checkChannels(ids); err != nil {
		return err
	}
	ids = unique(ids)
	end, err := turn.Take(ctx, c.owners, keepAliveList{app.ID})
	if err != nil {
		return err
	}
	defer end()
	var todo []string
	for _, id := range ids {
		ch, err := c.peek(ctx, app, id)
		if err != nil {
			return err
		}
		if ch.KeepAlive != on {
			todo = append(todo, id)
		}
	}
	if on && len(todo) > 0 {
		most := app.Settings.KeepAlive
		list, err := c.KeptAlive(ctx, app)
		if err != nil {
			return err
		}
		if n := len(list) + len(todo); n > most {
			return chat.Failf(chat.KindKeepAliveFull, "channelIds: at most %d open channels are kept alive (open.keep-alive), these would be %d", most, n)
		}
	}
	for _, id := range todo {
		if _, err := c.open.ChangeOpenChannel(ctx, app, id, on, func(ch *chat.OpenChannel) error {
			ch.KeepAlive = on
			if !on {
				ch.ActiveAt = c.now().UnixMilli()
			}
			return nil
		}); err != nil && (on || chat.KindOf(err) != chat.KindNoOpenChannel) {
			return err
		}
	}
	return nil
}

// KeptAlive are the open channels that are kept from ending by themselves.
func (c *Courier) KeptAlive(ctx context.Context, app *chat.App) ([]string, error) {
	// The setting may have been larger.
	return c.open.ListOpenChannels(ctx, app.ID, store.OpenKeepAlive, 0, 1<<20)
}
