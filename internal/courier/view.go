package courier

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// An owner is a user as those whose own channels are changed.
type owner struct {
	app  chat.AppID
	user string
}

// changeOwn lets do read what a user has made of their channels, and say what is
// to be committed of it, if anything. Nobody else changes it meanwhile: as with
// messages, the turn lasts until the store has settled the append.
func (c *Courier) changeOwn(ctx context.Context, app chat.AppID, user string, do func() (*store.Append, error)) error {
	end, err := turn.Take(ctx, c.owners, owner{app, user})
	if err != nil {
		return err
	}
	a, err := do()
	if err != nil || a == nil {
		end()
		return err
	}
	a.Done = func(error) { end() }
	return c.store.Append(ctx, a)
}

// changeView is changeOwn for one channel: do gets the view of it as it is.
func (c *Courier) changeView(ctx context.Context, ch store.ChannelRef, do func(chat.View) (*store.Append, error)) error {
	return c.changeOwn(ctx, ch.App, ch.Owner, func() (*store.Append, error) {
		v, err := c.archive.View(ctx, ch)
		if err != nil {
			return nil, err
		}
		if v == nil {
			v = &chat.View{}
		}
		return do(*v)
	})
}

// viewed is the change that makes v the view of a channel.
func viewed(ch store.ChannelRef, v chat.View) store.ViewChange {
	if v.IsZero() {
		return store.ViewChange{Channel: ch}
	}
	return store.ViewChange{Channel: ch, View: &v}
}

// tellOwn is the append that tells a user's own devices of ev, and changes what it
// tells of. Its message is one from the user to themselves, whatever the channel:
// so it has one entry and never comes near a room.
func tellOwn(app chat.AppID, user, requestID string, ev *chat.Event, views ...store.ViewChange) *store.Append {
	return &store.Append{
		Message: &chat.Message{
			App: app, ChannelType: chat.Direct, Flags: chat.Missed, From: user, RequestID: requestID, Event: ev,
		},
		Targets: []string{user},
		Views:   views,
	}
}

// An OwnChannel names a channel in a user's list, and the request that is about
// it.
type OwnChannel struct {
	User      string
	Type      chat.ChannelType
	Channel   string
	Sub       string // a part of a community
	RequestID string
}

func (q *OwnChannel) check() error {
	if err := chat.CheckID("userId", q.User); err != nil {
		return err
	}
	if q.Sub != "" {
		if q.Type != chat.Community {
			return chat.Invalid("subchannelId", "only communities have subchannels")
		}
		if err := chat.CheckID("subchannelId", q.Sub); err != nil {
			return err
		}
	}
	return chat.CheckID("channelId", q.Channel)
}

func (q *OwnChannel) ref(app *chat.App) store.ChannelRef {
	return store.ChannelRef{App: app.ID, Owner: q.User, Type: q.Type, Channel: chat.Subchannel(q.Channel, q.Sub)}
}

// tell is the append that makes v the view of the channel and tells of it.
func (q *OwnChannel) tell(app *chat.App, v chat.View, at int64, own *chat.OwnChange) *store.Append {
	return tellOwn(app.ID, q.User, q.RequestID, &chat.Event{
		Kind: chat.EventChannel, At: at, ChannelType: q.Type, Channel: chat.Subchannel(q.Channel, q.Sub), Own: own,
	}, viewed(q.ref(app), v))
}

// changePreferences is changeOwn for what a user has set for all channels.
func (c *Courier) changePreferences(ctx context.Context, app *chat.App, user string, do func(chat.Preferences) (*store.Append, error)) error {
	return c.changeOwn(ctx, app.ID, user, func() (*store.Append, error) {
		p, err := c.Preferences(ctx, app, user)
		if err != nil {
			return nil, err
		}
		return do(*p)
	})
}

// Preferences are what the user has set for all of their channels, never nil.
func (c *Courier) Preferences(ctx context.Context, app *chat.App, user string) (*chat.Preferences, error) {
	if err := chat.CheckID("userId", user); err != nil {
		return nil, err
	}
	p, err := c.archive.Preferences(ctx, app.ID, user)
	if p == nil {
		p = &chat.Preferences{}
	}
	return p, err
}

// preferred is the change that makes p the user's preferences.
func preferred(app *chat.App, user string, p chat.Preferences) *store.PreferencesChange {
	if p.IsZero() {
		return &store.PreferencesChange{App: app.ID, User: user}
	}
	return &store.PreferencesChange{App: app.ID, User: user, Preferences: &p}
}

// prefer is the append that makes p the user's preferences and tells of it.
func prefer(app *chat.App, user, requestID string, p chat.Preferences, ev *chat.Event) *store.Append {
	a := tellOwn(app.ID, user, requestID, ev)
	a.Preferences = preferred(app, user, p)
	return a
}

// Pin pins the channel to the top of the user's list, or unpins it, and says
// since when it is pinned. What is so already stays as it is.
func (c *Courier) Pin(ctx context.Context, app *chat.App, q *OwnChannel, pinned bool) (at int64, err error) {
	if err := q.check(); err != nil {
		return 0, err
	}
	err = c.changeView(ctx, q.ref(app), func(v chat.View) (*store.Append, error) {
		at = v.PinnedAt
		if pinned == (at != 0) {
			return nil, nil
		}
		now := c.now().UnixMilli()
		if at = 0; pinned {
			at = now
		}
		v.PinnedAt = at
		return q.tell(app, v, now, &chat.OwnChange{Part: chat.OwnPin, PinnedAt: at}), nil
	})
	return at, err
}
