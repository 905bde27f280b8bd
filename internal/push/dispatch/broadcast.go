package dispatch

import (
	"context"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// tellOf decides which of some users are notified of a broadcast, and puts the jobs
// into the change.
func (f *follower) tellOf(ctx context.Context, q *request, b *chat.Broadcast, page []store.PushRegistered, now time.Time) error {
	some := page[:0]
	users, uids := make([]string, 0, len(page)), make([]chat.UID, 0, len(page))
	for _, to := range page {
		if b.Audience.Package != "" {
			// By what they have registered: connections of theirs there may be none.
			to.Devices = slices.DeleteFunc(to.Devices, func(d chat.PushDevice) bool { return d.Package != b.Audience.Package })
		}
		if to.User == b.From || len(to.Devices) == 0 {
			continue
		}
		// Who has it already is notified of their own message, or was.
		taken, err := f.d.Store.Taken(ctx, b.App, b.UID, to.User)
		if err != nil {
			return err
		}
		if taken.IsZero() {
			some, users, uids = append(some, to), append(users, to.User), append(uids, b.UID)
		}
	}
	sights, err := f.d.Store.PushSights(ctx, b.App, chat.System, b.From, users, uids)
	if err != nil {
		return err
	}
	tagged := chat.Audience{AllTags: b.Audience.AllTags, AnyTag: b.Audience.AnyTag}
	for i := range some {
		var tags []string
		if u := sights[i].User; u != nil {
			tags = u.Tags
		}
		if tagged.Fits(tags, nil) {
			f.tell(q, b, &some[i], &sights[i], now)
		}
	}
	return nil
}

// tell decides whether somebody of the audience is notified of a broadcast.
func (f *follower) tell(q *request, b *chat.Broadcast, to *store.PushRegistered, sight *store.PushSight, now time.Time) {
	r := push.Recipient{ID: to.User, Devices: to.Devices}
	q.fill(&r, b.UID, sight, now)
	d := push.Decide(q.send, &r, &q.rules, now, b.UID.Time())
	reason := d.Reason
	if d.Effect != push.None {
		due := q.due
		if list, _ := f.d.Sessions.Cursors(b.App, to.User); slices.ContainsFunc(list, func(c push.Cursor) bool { return c.Live }) {
			// They are about to be given it. If they are not, the line was dead.
			due = b.UID.Time().Add(castWait).UnixMilli()
		}
		reason = f.notify(q, &r, &d, store.PushJob{
			PushPlace: store.PushPlace{Due: due, UID: b.UID, User: to.User}, Priority: priorityAll,
			Silent: d.Effect == push.Silent, Ref: b.UID, MadeAt: now.UnixMilli(),
			Expires: b.UID.Time().Add(push.Lifetime(q.send.Type(), d.Effect, q.rules.Lifetime)).UnixMilli(),
		})
	}
	f.d.deciding.recipient(q.effect, reason)
}

// unshowCast takes back what is shown of a recalled broadcast.
func (f *follower) unshowCast(ctx context.Context, q *request, b *chat.Broadcast, page []store.PushRegistered) error {
	for i := range page {
		user := page[i].User
		shown, err := f.d.Store.PushShown(ctx, store.ChannelRef{App: b.App, Owner: user, Type: chat.System, Channel: b.From})
		if err != nil {
			return err
		}
		if shown.Compare(b.Recalls) < 0 {
			continue
		}
		jobs, err := f.d.withdrawals(ctx, q.app, q.setup, user, b.Recalls, b.Recalls, q.due)
		if err != nil {
			return err
		}
		f.change.Put = append(f.change.Put, jobs...)
	}
	return nil
}

// isLateCopy reports whether the request gives users a broadcast that was sent long
// ago: of that they were notified then.
func (f *follower) isLateCopy(ctx context.Context, q *request) (bool, error) {
	m := q.send.Message
	if m.ChannelType != chat.System || m.Event != nil || len(q.given) == 0 {
		return false, nil
	}
	of := f.d.casts.of(m)
	if of.IsZero() || q.ref.Time().Sub(of.Time()) < castOwn {
		return false, nil
	}
	uid, err := f.d.Store.Taken(ctx, q.app.ID, of, q.given[0].ID)
	return uid == q.ref, err
}
