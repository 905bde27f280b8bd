package courier

import (
	"context"
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

const (
	// MaxAudienceUsers is how many users a broadcast by tags can name in place of
	// tags, and MaxAudienceTags how many tags each of its lists has
	// (system/send-push-by-tag).
	MaxAudienceUsers = 1000
	MaxAudienceTags  = 20

	// MaxPushTitle is the longest title of a notification, in characters.
	MaxPushTitle = push.MaxTitle

	// MaxBroadcasts is how many broadcasts of an app may be alive: each is looked
	// at for everybody who connects. The limits of a usual app come to 630.
	MaxBroadcasts = 1000
)

// castKey names a budget of broadcasts.
type castKey struct {
	app    chat.AppID
	budget string
}

// A BroadcastRequest asks for a message to be given to all users who fit.
type BroadcastRequest struct {
	Kind     chat.BroadcastKind
	Message  *chat.Message // complete but for Flags and Persist
	Audience chat.Audience
	// Users, when there are any, are all who get it, at once, in place of an
	// audience.
	Users []string
	Claim *Claim
}

// Broadcast checks the request, admits it and makes it durable. What is placed is
// the broadcast's UID, without a target, or that of each of the request's Users.
// Users are given it by a pass over those who are connected, and by [Courier.Touch].
func (c *Courier) Broadcast(ctx context.Context, app *chat.App, q *BroadcastRequest) (*Sent, error) {
	sent, err := c.broadcast(ctx, app, q)
	q.Claim.settle(err)
	if err == nil && !sent.Repeated {
		c.metrics.broadcasts.WithLabelValues(q.Kind.String()).Inc()
	}
	return sent, err
}

func errNoBroadcasts() error {
	return chat.Fail(chat.KindFeatureOff, "broadcasts are switched off for this app (broadcast.enabled)")
}

func (c *Courier) broadcast(ctx context.Context, app *chat.App, q *BroadcastRequest) (*Sent, error) {
	targets := []string{""}
	if len(q.Users) > 0 {
		var err error
		if targets, err = checkTargets(rule{field: "audience.userId", maxTargets: MaxAudienceUsers}, q.Users); err != nil {
			return nil, err
		}
	}
	if q.Claim != nil && q.Claim.prior != nil {
		return repeat(q.Message, q.Claim.prior, targets), nil
	}
	if !app.Settings.Broadcasts {
		return nil, errNoBroadcasts()
	}
	m := q.Message
	m.Persist = app.Settings.BroadcastHistory
	if err := check(m, &app.Settings, false); err != nil {
		return nil, err
	}
	if m.Ephemeral() && q.Kind != chat.BroadcastOnline && len(q.Users) == 0 {
		return nil, chat.Invalid("messageType", "messages of this type are never kept, so they can be broadcast only to those who are online")
	}
	if app.Settings.RegisteredUsersOnly {
		if err := c.users.CheckRegistered(ctx, app, "fromUserId", m.From); err != nil {
			return nil, err
		}
		if err := c.users.CheckRegistered(ctx, app, "audience.userId", q.Users...); err != nil {
			return nil, err
		}
	}
	a := &store.Append{Message: m}
	if len(q.Users) > 0 {
		a.Targets, a.History = targets, m.Persist && app.Settings.History
	} else {
		if err := c.checkRoom(ctx, app); err != nil {
			return nil, err
		}
		a.Broadcast = &chat.Broadcast{
			App: app.ID, Kind: q.Kind, From: m.From, RequestID: m.RequestID, Audience: q.Audience, Life: lifeOf(q.Kind, m), Message: m,
		}
	}
	back, err := c.spend(app, q.Kind)
	if err != nil {
		return nil, err
	}
	if q.Claim != nil {
		a.Once, a.Done = &q.Claim.once, q.Claim.finish
		q.Claim.appending = true
	}
	if err := c.store.Append(ctx, a); err != nil {
		if chat.KindOf(err) == chat.KindUnavailable {
			back()
		}
		return nil, err
	}
	return placed(m, a.Placed.First, targets, nil), nil
}

func lifeOf(k chat.BroadcastKind, m *chat.Message) (life time.Duration) {
	switch {
	case m.Ephemeral():
		return 0 // for those who are there now
	case k == chat.BroadcastOnline:
		return chat.OnlineLife
	}
	return chat.BroadcastLife
}

// checkRoom refuses what would be too many broadcasts.
func (c *Courier) checkRoom(ctx context.Context, app *chat.App) error {
	list, err := c.castsOf(ctx, app.ID)
	if err != nil {
		return err
	}
	now, alive, first, last := c.now().UnixMilli(), 0, int64(math.MaxInt64), int64(0)
	for _, b := range list {
		if until := b.Until(); until >= now {
			alive, first, last = alive+1, min(first, until), max(last, until)
		}
	}
	if alive < MaxBroadcasts {
		return nil
	}
	full := chat.Failf(chat.KindRate, "%d broadcasts of the last 7 days are alive, and there may not be more", alive)
	full.RetryAfter = time.Duration(first-now+1) * time.Millisecond
	full.Budget = &chat.Budget{Limit: MaxBroadcasts, Reset: time.Duration(last-now) * time.Millisecond}
	return full
}

// spend takes a broadcast from its budgets, or a recall from those of recalls,
// from all or none, and gives what returns it.
func (c *Courier) spend(app *chat.App, k chat.BroadcastKind) (back func(), err error) {
	s := &app.Settings
	type part struct {
		key  castKey
		rate chat.Rate
	}
	parts := []part{{castKey{app.ID, "hour"}, s.LimitBroadcastHour}, {castKey{app.ID, "day"}, s.LimitBroadcastDay}}
	switch k {
	case chat.BroadcastOnline:
		parts = []part{{castKey{app.ID, "online"}, s.LimitBroadcastOnline}}
	case chat.BroadcastRecall:
		parts[0].key.budget, parts[1].key.budget = "recall hour", "recall day"
	}
	n := 0
	back = func() {
		for _, p := range parts[:n] {
			c.castBudgets.Return(p.key, p.rate, 1)
		}
	}
	for ; n < len(parts); n++ {
		if err := c.castBudgets.Take(parts[n].key, parts[n].rate, 1, ""); err != nil {
			back()
			return nil, err
		}
	}
	return back, nil
}

// A BroadcastRecallRequest asks for a broadcast to all users to be taken back.
type BroadcastRecallRequest struct {
	UID               chat.UID
	From              string // as the request names the sender
	RequestID         string
	Admin             bool
	Extra             string
	DisableUpdateLast bool
}

// RecallBroadcast takes a broadcast back: those who were given it are told, as of
// any recall, when they are next heard of, and nobody else is given it. What was
// taken back before stays as it is.
func (c *Courier) RecallBroadcast(ctx context.Context, app *chat.App, q *BroadcastRecallRequest) error {
	if n := utf8.RuneCountInString(q.Extra); n > MaxRecallExtra {
		return chat.TooLong("extra", MaxRecallExtra, n, "characters")
	}
	end, err := turn.Take(ctx, c.turns, q.UID)
	if err != nil {
		return err
	}
	a, back, err := c.prepareRecall(ctx, app, q)
	if err != nil || a == nil {
		end()
		return err
	}
	a.Done = func(error) { end() }
	if err := c.store.Append(ctx, a); err != nil {
		if chat.KindOf(err) == chat.KindUnavailable {
			back()
		}
		return err
	}
	c.metrics.broadcasts.WithLabelValues(chat.BroadcastRecall.String()).Inc()
	return nil
}

func (c *Courier) prepareRecall(ctx context.Context, app *chat.App, q *BroadcastRecallRequest) (a *store.Append, back func(), err error) {
	list, err := c.castsOf(ctx, app.ID)
	if err != nil {
		return nil, nil, err
	}
	b, err := c.archive.Broadcast(ctx, app.ID, q.UID)
	gone := errors.Is(err, &chat.Error{Kind: chat.KindNotFound})
	if err != nil && !gone {
		return nil, nil, err
	}
	now := c.after(q.UID)
	switch {
	case !gone && b.Kind == chat.BroadcastOnline:
		return nil, nil, chat.Invalid("messageUID", "a broadcast to those who are online cannot be recalled")
	case !gone && (b.Kind == chat.BroadcastTag || b.Kind == chat.BroadcastPackage):
		return nil, nil, chat.Invalid("messageUID", "only broadcasts to all users can be recalled")
	case gone || b.Kind != chat.BroadcastAll || b.Until() < now:
		return nil, nil, &chat.Error{Kind: chat.KindNotFound, Field: "messageUID", Rule: "no such broadcast of the last 7 days"}
	case b.From != q.From:
		return nil, nil, chat.Invalid("fromUserId", "did not send this message")
	}
	for _, k := range list {
		if k.UID == q.UID && k.recalled {
			return nil, nil, nil
		}
	}
	if back, err = c.spend(app, chat.BroadcastRecall); err != nil {
		return nil, nil, err
	}
	return &store.Append{
		Message: &chat.Message{App: app.ID, ChannelType: chat.System, Flags: chat.Missed, From: q.From, RequestID: q.RequestID},
		Broadcast: &chat.Broadcast{
			App: app.ID, Kind: chat.BroadcastRecall, From: q.From, RequestID: q.RequestID, Life: chat.BroadcastLife, Recalls: q.UID,
			Recall:            chat.Recall{Operator: q.From, At: now, Admin: q.Admin, Extra: q.Extra},
			DisableUpdateLast: q.DisableUpdateLast,
		},
	}, back, nil
}

// A BroadcastReport is what became of a broadcast.
type BroadcastReport struct {
	*chat.Broadcast
	Taken      int  // how many users were given it
	TakenMore  bool // there are more than were counted
	RecalledAt int64
}

// maxCounted is how many users a report counts: it looks at a row for each.
const maxCounted = 100_000

// BroadcastReport tells what became of a broadcast: KindNotFound when there is
// none.
func (c *Courier) BroadcastReport(ctx context.Context, app *chat.App, uid chat.UID) (*BroadcastReport, error) {
	list, err := c.castsOf(ctx, app.ID)
	if err != nil {
		return nil, err
	}
	r := &BroadcastReport{}
	if r.Broadcast, err = c.archive.Broadcast(ctx, app.ID, uid); err != nil {
		return nil, err
	}
	if r.Taken, err = c.archive.CountTaken(ctx, app.ID, uid, maxCounted+1); err != nil {
		return nil, err
	}
	if r.TakenMore = r.Taken > maxCounted; r.TakenMore {
		r.Taken = maxCounted
	}
	for _, b := range list {
		if b.Recalls == uid {
			r.RecalledAt = b.Recall.At
		}
	}
	return r, nil
}
