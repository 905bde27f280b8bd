package courier

import (
	"context"
	"maps"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// SetLevel says which messages of the channel notify the user; without a Channel,
// which do of all channels of the type that have no level of their own.
func (c *Courier) SetLevel(ctx context.Context, app *chat.App, q *OwnChannel, level chat.NotifyLevel) error {
	if !level.Valid() {
		return chat.Invalidf("level", "one of -1, 0, 1, 2, 4, 5, got %d", level)
	}
	own := &chat.OwnChange{Part: chat.OwnLevel, Level: level}
	if q.Channel == "" && q.Sub == "" {
		return c.changePreferences(ctx, app, q.User, func(p chat.Preferences) (*store.Append, error) {
			if p.Levels[q.Type] == level {
				return nil, nil
			}
			levels := maps.Clone(p.Levels)
			if levels == nil {
				levels = map[chat.ChannelType]chat.NotifyLevel{}
			}
			if levels[q.Type] = level; level == chat.NotifyUnset {
				delete(levels, q.Type)
			}
			p.Levels = levels
			return prefer(app, q.User, q.RequestID, p, &chat.Event{
				Kind: chat.EventChannel, At: c.now().UnixMilli(), ChannelType: q.Type, Own: own,
			}), nil
		})
	}
	if err := q.check(); err != nil {
		return err
	}
	return c.changeView(ctx, q.ref(app), func(v chat.View) (*store.Append, error) {
		if v.Level == level {
			return nil, nil
		}
		v.Level = level
		return q.tell(app, v, c.now().UnixMilli(), own), nil
	})
}

// Level is what SetLevel has set, NotifyUnset when it has not.
func (c *Courier) Level(ctx context.Context, app *chat.App, q *OwnChannel) (chat.NotifyLevel, error) {
	if q.Channel == "" && q.Sub == "" {
		p, err := c.Preferences(ctx, app, q.User)
		if err != nil {
			return 0, err
		}
		return p.Levels[q.Type], nil
	}
	v, err := c.View(ctx, app, q)
	if err != nil {
		return 0, err
	}
	return v.Level, nil
}

// View is what the user has made of the channel, never nil.
func (c *Courier) View(ctx context.Context, app *chat.App, q *OwnChannel) (*chat.View, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	v, err := c.archive.View(ctx, q.ref(app))
	if v == nil {
		v = &chat.View{}
	}
	return v, err
}

// SetQuietHours sets the part of the day in which the user is notified less; nil
// is none.
func (c *Courier) SetQuietHours(ctx context.Context, app *chat.App, user, requestID string, quiet *chat.QuietHours) error {
	return c.changePreferences(ctx, app, user, func(p chat.Preferences) (*store.Append, error) {
		if p.Quiet == quiet || p.Quiet != nil && quiet != nil && *p.Quiet == *quiet {
			return nil, nil
		}
		p.Quiet = quiet
		return prefer(app, user, requestID, p, &chat.Event{
			Kind: chat.EventChannel, At: c.now().UnixMilli(), Own: &chat.OwnChange{Part: chat.OwnQuiet, Quiet: quiet},
		}), nil
	})
}
