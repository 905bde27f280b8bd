package courier

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Delete deletes messages of one channel for the user alone, and says when.
func (c *Courier) Delete(ctx context.Context, app *chat.App, user, requestID string, uids []chat.UID) (at int64, err error) {
	if len(uids) == 0 {
		return 0, chat.Invalid("messageUIDs", "is required")
	}
	uids = uniqueUIDs(uids)
	var ch store.ChannelRef
	for i, uid := range uids {
		s, err := c.subject(ctx, app.ID, uid)
		if err != nil {
			return 0, inList(i, err)
		}
		switch {
		case !s.isSide(user):
			return 0, inList(i, errNoMessage())
		case s.message.ChannelType == chat.Open:
			return 0, inList(i, chat.Invalid("messageUID", "is of an open channel, where a message is there for all"))
		}
		if of := s.channelOf(user); i == 0 {
			ch = of
		} else if of != ch {
			return 0, inList(i, chat.Invalid("messageUID", "is of another channel than the first"))
		}
	}
	at = c.now().UnixMilli()
	err = c.changeOwn(ctx, app.ID, user, func() (*store.Append, error) {
		marks, fresh, since, err := c.freshMarks(ctx, ch, uids, store.MarkHidden, chat.UID{}, at)
		if err != nil || len(fresh) == 0 {
			at = sinceOr(since, at)
			return nil, err
		}
		a := tellOwn(app.ID, user, requestID, &chat.Event{
			Kind: chat.EventDelete, At: at, ChannelType: ch.Type, Channel: ch.Channel, UIDs: fresh,
		})
		a.Marks = marks
		return a, nil
	})
	return at, err
}

// Clear empties a channel's history up to a place, or of everything there is when
// upTo is zero: for the user alone, and where the channel is open for all, in the
// name of the user. What still waits for somebody who was away is not touched.
func (c *Courier) Clear(ctx context.Context, app *chat.App, q *OwnChannel, upTo chat.UID) (at int64, err error) {
	if err := chat.CheckID("fromUserId", q.User); err != nil {
		return 0, err
	}
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return 0, err
	}
	ch := q.ref(app)
	if q.Type == chat.Open {
		ch.Owner = ""
	}
	// Not more than there is: what comes next is not cleared.
	newest, err := c.archive.Newest(ctx, ch)
	if err != nil {
		return 0, err
	}
	if upTo.IsZero() || newest.Compare(upTo) < 0 {
		upTo = newest
	}
	at = c.after(upTo)
	err = c.changeView(ctx, ch, func(v chat.View) (*store.Append, error) {
		if upTo.Compare(v.ClearedUpTo) <= 0 {
			at = sinceOr(v.ClearedAt, at)
			return nil, nil
		}
		v.ClearedUpTo, v.ClearedAt = upTo, at
		a := tellOwn(app.ID, q.User, q.RequestID, &chat.Event{
			Kind: chat.EventDelete, At: at, ChannelType: q.Type, Channel: q.Channel, UpTo: upTo,
		}, viewed(ch, v))
		if q.Type == chat.Open {
			a.Message.ChannelType, a.Message.Echo, a.Targets = chat.Open, true, []string{q.Channel}
		}
		return a, nil
	})
	return at, err
}
