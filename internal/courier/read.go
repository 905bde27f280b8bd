package courier

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	// MaxMessageUIDs is how many messages one call of a client can name.
	MaxMessageUIDs = 100
	// receiptsTogether is how many receipts of one call are given at a time: the
	// writer joins them, and a call never takes more of its queue than this.
	receiptsTogether = 100
	// receiptsLooked is how many messages that want one are read at a time.
	receiptsLooked = 1000
)

// A ReadRequest says what its user has read of a direct or system channel: either
// some messages, or all up to one.
type ReadRequest struct {
	OwnChannel
	UIDs []chat.UID
	UpTo chat.UID
}

// An Unread says how many messages count as unread, MaxUnread for so many or
// more.
type Unread struct{ Channel, Total int }

// Read makes known what the user has read: to the senders who want to know, and
// to the user's other devices. It says when, and what is left.
//
// The receipts come first, each in a commit of its own, and what the user has read
// last: so whoever repeats a call that was cut off gives what is missing.
func (c *Courier) Read(ctx context.Context, app *chat.App, q *ReadRequest) (at int64, left Unread, err error) {
	if err := q.check(); err != nil {
		return 0, left, err
	}
	if len(q.UIDs) > 0 {
		at, err = c.readSome(ctx, app, q)
	} else {
		at, err = c.readUpTo(ctx, app, q)
	}
	if err != nil {
		return 0, left, err
	}
	if left.Channel, err = c.unreadIn(ctx, app, q.ref(app)); err == nil {
		left.Total, err = c.UnreadTotal(ctx, app, q.User)
	}
	return at, left, err
}

func (c *Courier) readUpTo(ctx context.Context, app *chat.App, q *ReadRequest) (at int64, err error) {
	ch := q.ref(app)
	// What is not there yet cannot have been read.
	upTo, err := c.archive.Newest(ctx, ch)
	if err != nil {
		return 0, err
	}
	if q.UpTo.Compare(upTo) < 0 {
		upTo = q.UpTo
	}
	at = c.after(upTo)
	v, err := c.archive.View(ctx, ch)
	if err != nil {
		return 0, err
	}
	r := store.KeptRange{Missed: c.missedBehind(app), Limit: receiptsLooked}
	if v != nil {
		if upTo.Compare(v.ReadUpTo) <= 0 {
			return sinceOr(v.ReadAt, at), nil
		}
		// What was cleared away was not read.
		r.After = v.ReadUpTo
		if v.ClearedUpTo.Compare(r.After) > 0 {
			r.After = v.ClearedUpTo
		}
	}
	for more := true; more; {
		list, err := c.archive.Wanting(ctx, ch, r)
		if err != nil {
			return 0, err
		}
		more = len(list) == r.Limit
		for i, uid := range list {
			if uid.Compare(upTo) > 0 {
				list, more = list[:i], false
				break
			}
			r.After = uid
		}
		if err := c.giveReceipts(ctx, app, q, list); err != nil {
			return 0, err
		}
	}
	err = c.changeView(ctx, ch, func(v chat.View) (*store.Append, error) {
		if upTo.Compare(v.ReadUpTo) <= 0 {
			at = sinceOr(v.ReadAt, at)
			return nil, nil
		}
		v.ReadUpTo, v.ReadAt = upTo, at
		return tellOwn(app.ID, q.User, q.RequestID, &chat.Event{
			Kind: chat.EventRead, At: at, ChannelType: q.Type, Channel: q.Channel, UpTo: upTo,
		}, viewed(ch, v)), nil
	})
	return at, err
}

// sinceOr is since when something is so, which those who repeat a call are told;
// where nothing was to be done, it is now.
func sinceOr(since, now int64) int64 {
	if since != 0 {
		return since
	}
	return now
}

func (c *Courier) readSome(ctx context.Context, app *chat.App, q *ReadRequest) (at int64, err error) {
	ch := q.ref(app)
	uids := uniqueUIDs(q.UIDs)
	for i, uid := range uids {
		s, err := c.subject(ctx, app.ID, uid)
		if err != nil {
			return 0, inList(i, err)
		}
		if s.target != q.User || s.channelOf(q.User) != ch {
			return 0, inList(i, errNoMessage())
		}
	}
	if err := c.giveReceipts(ctx, app, q, uids); err != nil {
		return 0, err
	}
	at = c.now().UnixMilli()
	err = c.changeView(ctx, ch, func(v chat.View) (*store.Append, error) {
		marks, fresh, since, err := c.freshMarks(ctx, ch, uids, store.MarkRead, v.ReadUpTo, at)
		if err != nil || len(fresh) == 0 {
			at = sinceOr(max(since, v.ReadAt), at)
			return nil, err
		}
		a := tellOwn(app.ID, q.User, q.RequestID, &chat.Event{
			Kind: chat.EventRead, At: at, ChannelType: q.Type, Channel: q.Channel, UIDs: fresh,
		})
		a.Marks = marks
		return a, nil
	})
	return at, err
}

// freshMarks are the marks to be put on those of the messages, in any order, that
// are behind a place in the channel and do not have it. since is when the newest
// of those that have it got it.
func (c *Courier) freshMarks(ctx context.Context, ch store.ChannelRef, uids []chat.UID, mark store.Mark, behind chat.UID, at int64) (marks []store.MarkChange, fresh []chat.UID, since int64, err error) {
	from, to := uids[0], uids[0]
	for _, uid := range uids {
		if uid.Compare(from) < 0 {
			from = uid
		}
		if uid.Compare(to) > 0 {
			to = uid
		}
	}
	there, err := c.archive.Marks(ctx, ch, from, to)
	if err != nil {
		return nil, nil, 0, err
	}
	has := map[chat.UID]int64{}
	for _, m := range there {
		if m.Mark == mark {
			has[m.UID] = m.At
		}
	}
	for _, uid := range uids {
		when, marked := has[uid]
		since = max(since, when)
		if uid.Compare(behind) > 0 && !marked {
			marks = append(marks, store.MarkChange{Channel: ch, UID: uid, Mark: mark, At: at})
			fresh = append(fresh, uid)
		}
	}
	return marks, fresh, since, nil
}

func uniqueUIDs(uids []chat.UID) []chat.UID {
	list := make([]chat.UID, 0, len(uids))
	seen := make(map[chat.UID]bool, len(uids))
	for _, uid := range uids {
		if !seen[uid] {
			seen[uid] = true
			list = append(list, uid)
		}
	}
	return list
}

// inList says of which of the call's messages the error is.
func inList(i int, err error) error {
	if e, ok := err.(*chat.Error); ok && e.Field == "messageUID" {
		at := *e
		at.Field = "messageUIDs[" + strconv.Itoa(i) + "]"
		return &at
	}
	return err
}

// giveReceipts gives the receipts of those messages that still want one.
func (c *Courier) giveReceipts(ctx context.Context, app *chat.App, q *ReadRequest, uids []chat.UID) error {
	for len(uids) > 0 {
		n := min(len(uids), receiptsTogether)
		states, err := c.archive.Overlays(ctx, app.ID, uids[:n])
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		errs := make([]error, n)
		for i, uid := range uids[:n] {
			if st := states[i]; st == nil || st.ReadAt == 0 && st.Recall == nil {
				wg.Go(func() { errs[i] = c.giveReceipt(ctx, app, q, uid) })
			}
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		uids = uids[n:]
	}
	return nil
}

// giveReceipt tells the sender of one message that the user has read it, once.
func (c *Courier) giveReceipt(ctx context.Context, app *chat.App, q *ReadRequest, uid chat.UID) error {
	err := c.change(ctx, app.ID, uid, func(s *subject) (*store.Append, error) {
		m := s.message
		if !m.WantsReceipt() || s.target != q.User || s.target == m.From || s.state.ReadAt != 0 || s.state.Recall != nil {
			return nil, nil
		}
		st := s.state
		st.ReadAt = c.after(uid)
		ev := &chat.Event{Kind: chat.EventReceipt, Operator: q.User, At: st.ReadAt}
		a := s.tell(ev, q.RequestID, s.next(st))
		// As from the reader, so that the sender's is the only entry.
		a.Message.From, a.Message.Echo, a.Targets = s.target, false, []string{m.From}
		return a, nil
	})
	if chat.KindOf(err) == chat.KindNotFound {
		return nil // it expires while we look
	}
	return err
}

// A Receipt says who has read a message.
type Receipt struct {
	Read   []Reader
	Unread []string // of whom nothing is known when nobody asked for them
	Total  int
}

// A Reader is somebody who has read a message.
type Reader struct {
	User string
	At   int64 // Unix ms
}

// receiptOf is the receipt of a message to one person, without names.
func receiptOf(st *chat.State) *Receipt {
	r := &Receipt{Total: 1}
	if st != nil && st.ReadAt != 0 {
		r.Read = []Reader{{At: st.ReadAt}}
	}
	return r
}

// Readers says who has read a message, to its sender.
func (c *Courier) Readers(ctx context.Context, app *chat.App, q *Subject) (*Receipt, error) {
	s, err := c.subject(ctx, app.ID, q.UID)
	if err != nil {
		return nil, err
	}
	if err := q.check(s); err != nil {
		return nil, err
	}
	switch {
	case !s.message.WantsReceipt():
		return nil, chat.Invalid("messageUID", "was sent without needReadReceipt")
	case s.state.Recall != nil:
		return nil, errRecalled()
	}
	r := receiptOf(&s.state)
	if len(r.Read) > 0 {
		r.Read[0].User = s.target
	} else {
		r.Unread = []string{s.target}
	}
	return r, nil
}

// missedBehind is behind which UID messages that are not in history still wait.
func (c *Courier) missedBehind(app *chat.App) chat.UID {
	const day = 24 * time.Hour
	return chat.UIDsBefore(c.now().UTC().Truncate(day).Add(-time.Duration(app.Settings.MissedDays) * day).UnixMilli())
}

// unreadIn counts what is unread of one channel.
func (c *Courier) unreadIn(ctx context.Context, app *chat.App, ch store.ChannelRef) (int, error) {
	v, err := c.archive.View(ctx, ch)
	if err != nil {
		return 0, err
	}
	return c.archive.Unread(ctx, ch, store.KeptRange{After: v.Settled(), Missed: c.missedBehind(app), Limit: chat.MaxUnread})
}

// UnreadTotal counts what is unread in all of the user's channels.
func (c *Courier) UnreadTotal(ctx context.Context, app *chat.App, user string) (total int, err error) {
	list, err := c.archive.Channels(ctx, app.ID, user, maxChannels)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	views, err := c.viewsOf(ctx, app, user)
	if err != nil {
		return 0, err
	}
	for i := range list {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := c.unreadOf(ctx, app, user, &list[i], views[channelName{list[i].Type, list[i].Channel}], chat.MaxUnread-total)
		if err != nil {
			return 0, err
		}
		if total += n; total == chat.MaxUnread {
			break
		}
	}
	return total, nil
}

// unreadOf counts what is unread of a line of the list, if anything can be.
func (c *Courier) unreadOf(ctx context.Context, app *chat.App, user string, s *store.ChannelState, v *chat.View, limit int) (int, error) {
	from := v.Settled()
	if s.Last.UID.Compare(from) <= 0 && s.Quiet.Compare(from) <= 0 {
		return 0, nil
	}
	ch := store.ChannelRef{App: app.ID, Owner: user, Type: s.Type, Channel: s.Channel}
	return c.archive.Unread(ctx, ch, store.KeptRange{After: from, Missed: c.missedBehind(app), Limit: limit})
}

// maxChannels is more than a user has.
const maxChannels = 1 << 30

type channelName struct {
	t  chat.ChannelType
	id string
}

func (c *Courier) viewsOf(ctx context.Context, app *chat.App, user string) (map[channelName]*chat.View, error) {
	list, err := c.archive.Views(ctx, app.ID, user)
	if err != nil {
		return nil, err
	}
	views := make(map[channelName]*chat.View, len(list))
	for _, v := range list {
		views[channelName{v.Type, v.Channel}] = v.View
	}
	return views, nil
}
