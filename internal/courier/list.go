package courier

import (
	"context"
	"slices"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	// MaxChannelPage is how many channels one page of the list has at most.
	MaxChannelPage = 100
	// maxLastScan is how far back is looked for a message that can be shown as the
	// last one, and lastPage how much is read at a time.
	maxLastScan = 200
	lastPage    = 20
)

// A ListedChannel is a channel as it stands in a user's list.
type ListedChannel struct {
	Type    chat.ChannelType
	Channel string
	Last    *HistoryMessage // as it is seen now; nil when there is none
	Unread  int             // MaxUnread for so many or more
	View    chat.View

	place chat.UID // in the order of the list
}

// A ChannelQuery asks for a page of a user's channel list.
type ChannelQuery struct {
	User  string
	Size  int
	Order int      // 0 newest message first, 1 oldest first
	After chat.UID // where the page before ended
}

// A ChannelPage is a page of a channel list.
type ChannelPage struct {
	Channels []ListedChannel
	Next     chat.UID // the After of the next page; zero when this is the last one
}

// ChannelList gives a page of the user's channels. A channel's place is that of
// its newest message, so those where nothing happens meanwhile are neither left
// out nor given twice.
func (c *Courier) ChannelList(ctx context.Context, app *chat.App, q *ChannelQuery) (*ChannelPage, error) {
	if q.Size < 1 || q.Size > MaxChannelPage {
		return nil, chat.Invalidf("pageSize", "from 1 to %d, got %d", MaxChannelPage, q.Size)
	}
	list, err := c.archive.Channels(ctx, app.ID, q.User, maxChannels)
	if err != nil {
		return nil, err
	}
	page := &ChannelPage{}
	if len(list) == 0 {
		return page, nil
	}
	views, err := c.viewsOf(ctx, app, q.User)
	if err != nil {
		return nil, err
	}
	if q.Order == 1 {
		slices.Reverse(list)
	}
	for i := range list {
		s := &list[i]
		v := views[channelName{s.Type, s.Channel}]
		order := s.Last.UID.Compare(q.After)
		switch {
		case s.Last.UID.IsZero() || v != nil && s.Last.UID.Compare(v.RemovedUpTo) <= 0:
			continue
		case !q.After.IsZero() && (q.Order == 0 && order >= 0 || q.Order == 1 && order <= 0):
			continue
		}
		if len(page.Channels) == q.Size {
			page.Next = page.Channels[q.Size-1].place
			break
		}
		l, err := c.listed(ctx, app, q.User, s, v)
		if err != nil {
			return nil, err
		}
		page.Channels = append(page.Channels, *l)
	}
	return page, nil
}

// Channel is one of the user's channels, whether it stands in the list or not.
func (c *Courier) Channel(ctx context.Context, app *chat.App, q *OwnChannel) (*ListedChannel, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	s, err := c.archive.Channel(ctx, q.ref(app))
	if err != nil {
		return nil, err
	}
	v, err := c.archive.View(ctx, q.ref(app))
	if err != nil {
		return nil, err
	}
	return c.listed(ctx, app, q.User, &s, v)
}

// RemoveChannel takes the channel out of the user's list until something new is
// said there, and says when. What was unread by then counts no more.
func (c *Courier) RemoveChannel(ctx context.Context, app *chat.App, q *OwnChannel) (at int64, err error) {
	if err := q.check(); err != nil {
		return 0, err
	}
	upTo, err := c.archive.Newest(ctx, q.ref(app))
	if err != nil {
		return 0, err
	}
	at = c.after(upTo)
	err = c.changeView(ctx, q.ref(app), func(v chat.View) (*store.Append, error) {
		if upTo.Compare(v.RemovedUpTo) <= 0 {
			at = sinceOr(v.RemovedAt, at)
			return nil, nil
		}
		v.RemovedUpTo, v.RemovedAt = upTo, at
		a := q.tell(app, v, at, &chat.OwnChange{Part: chat.OwnRemoved})
		a.Message.Event.UpTo = upTo
		return a, nil
	})
	return at, err
}

func (c *Courier) listed(ctx context.Context, app *chat.App, user string, s *store.ChannelState, v *chat.View) (l *ListedChannel, err error) {
	l = &ListedChannel{Type: s.Type, Channel: s.Channel, place: s.Last.UID}
	if v != nil {
		l.View = *v
	}
	if l.Unread, err = c.unreadOf(ctx, app, user, s, v, chat.MaxUnread); err != nil {
		return nil, err
	}
	if !s.Last.UID.IsZero() {
		l.Last, err = c.lastOf(ctx, app, user, s, &l.View)
	}
	return l, err
}

// lastOf is the channel's last message as the user sees it now. Where it is not to
// be seen any more, it is the newest in history that is.
func (c *Courier) lastOf(ctx context.Context, app *chat.App, user string, s *store.ChannelState, v *chat.View) (*HistoryMessage, error) {
	ch := store.ChannelRef{App: app.ID, Owner: user, Type: s.Type, Channel: s.Channel}
	q := &HistoryQuery{User: user, Type: s.Type, Channel: s.Channel}
	entries := []store.HistoryEntry{s.Last}
	r := store.HistoryRange{After: v.ClearedUpTo, Before: s.Last.UID, Limit: lastPage}
	if s.Last.UID.Compare(v.ClearedUpTo) <= 0 {
		return nil, nil
	}
	for scanned := 0; len(entries) > 0 && scanned < maxLastScan; scanned += len(entries) {
		states, err := c.archive.Overlays(ctx, app.ID, uidsOf(entries))
		if err != nil {
			return nil, err
		}
		hidden, err := c.hidden(ctx, ch, entries)
		if err != nil {
			return nil, err
		}
		for i := range entries {
			if st := states[i]; hidden[entries[i].UID] || st != nil && st.Recall != nil && st.Recall.DisableUpdateLast {
				continue
			}
			m, err := c.recollect(ctx, &entries[i], states[i], q)
			if err != nil {
				return nil, err
			}
			if m != nil && m.Message.Flags&chat.Kept != 0 && !m.Message.DisableUpdateLast {
				return m, nil
			}
		}
		if !app.Settings.History {
			return nil, nil
		}
		r.Before = entries[len(entries)-1].UID
		if entries, err = c.archive.History(ctx, ch, r); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
