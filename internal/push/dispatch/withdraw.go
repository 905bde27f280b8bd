package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	// withdrawLife is for how long it is worth trying to take a notification back.
	withdrawLife = time.Hour
	// withdrawMost is how many notifications are taken back one by one because of
	// one event: devices take few silent ones.
	withdrawMost = 4
	// backsTurn is for how long at least it is known what was taken back, and
	// maxBacks how much of that.
	backsTurn = time.Minute
	maxBacks  = 20_000
)

// backs know what was taken back of late. A message that is read in the moment in
// which its notification is taken is seen by the follower, which finds that it is
// shown, and by whoever writes that it is: the first of them takes it back.
type backs struct {
	mu        sync.Mutex
	since     time.Time
	now, last map[back]*follower // who did it; nil for the settler
}

// A back is what one device is told to take away: a message, or all up to it.
type back struct {
	screen
	uid chat.UID
	all bool
}

// claim reports whether it is still to be done, and leaves it to who asks. What a
// follower has left undone is the next one's: there is one at a time.
func (b *backs) claim(k back, by *follower, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.since); b.now == nil || age < 0 || age >= backsTurn || len(b.now) >= maxBacks {
		b.last, b.now, b.since = b.now, map[back]*follower{}, now
		if age >= 2*backsTurn {
			b.last = nil
		}
	}
	for _, list := range [...]map[back]*follower{b.now, b.last} {
		if who, done := list[k]; done && (by == nil || who == nil || who == by) {
			return false
		}
	}
	b.now[k] = by
	return true
}

// failed gives back what was to be done and could not be.
func (b *backs) failed(list []back) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range list {
		delete(b.now, k)
		delete(b.last, k)
	}
}

// unclaimed leaves of the jobs, which take back what is shown of a channel, those
// that nobody has made yet.
func (b *backs) unclaimed(jobs []store.PushJob, ch store.ChannelRef, all bool, by *follower, now time.Time) (kept []store.PushJob, claimed []back) {
	kept = jobs[:0]
	for i := range jobs {
		k := back{screen{ch, jobs[i].Device}, jobs[i].UID, all}
		if b.claim(k, by, now) {
			kept, claimed = append(kept, jobs[i]), append(claimed, k)
		}
	}
	return kept, claimed
}

// withdrawable reports whether devices of the provider take notifications away
// again when they are told to.
func withdrawable(p chat.PushProvider) bool { return p == chat.APNs || p == chat.FCM }

// withdraws reports whether notifications of the app are taken back at the
// provider, so that it must be known what is shown.
func (d *Dispatcher) withdraws(app chat.AppID, p chat.PushProvider) bool {
	if !withdrawable(p) {
		return false
	}
	a := d.Directory.AppByID(app)
	return a != nil && a.Settings.PushWithdraw
}

// withdrawals are the jobs that take back what the user's devices show of uid.
// Which message that is says ref.
func (d *Dispatcher) withdrawals(ctx context.Context, app *chat.App, s *setup, user string, uid, ref chat.UID, due int64) (jobs []store.PushJob, err error) {
	devices, err := d.Store.PushDevicesOf(ctx, app.ID, []string{user})
	if err != nil {
		return nil, err
	}
	now := d.Now()
	for i := range devices[0] {
		to := &devices[0][i]
		if !withdrawable(to.Provider) {
			continue
		}
		if c := s.credential(to); c != nil {
			jobs = append(jobs, store.PushJob{
				Lane: laneOf(app.ID, c, to), PushPlace: store.PushPlace{Due: due, UID: uid, User: user, Device: to.ID},
				Kind: store.PushWithdraw, Priority: prioritySilent, Silent: true, Ref: ref,
				MadeAt: now.UnixMilli(), Expires: now.Add(withdrawLife).UnixMilli(),
			})
		}
	}
	return jobs, nil
}

// refOf is the request that gave uid; zero when it is not kept any more.
func (d *Dispatcher) refOf(ctx context.Context, app chat.AppID, uid chat.UID) (chat.UID, error) {
	found, err := d.Store.Find(ctx, app, uid)
	if chat.KindOf(err) == chat.KindNotFound {
		b, err := d.Store.Broadcast(ctx, app, uid)
		switch {
		case chat.KindOf(err) == chat.KindNotFound:
			return chat.UID{}, nil
		case err != nil:
			return chat.UID{}, err
		}
		return b.UID, nil
	}
	if err != nil {
		return chat.UID{}, err
	}
	return found.Placed.First, nil
}

// seen takes back what is shown of a channel when its owner has read it, thrown it
// away, or taken it off their list.
func (f *follower) seen(ctx context.Context, q *request) error {
	m := q.send.Message
	ev := m.Event
	switch {
	case m.ChannelType == chat.Open:
		return nil
	case ev.Kind == chat.EventRead, ev.Kind == chat.EventDelete:
	case ev.Kind == chat.EventChannel && ev.Own != nil && ev.Own.Part == chat.OwnRemoved:
	default:
		return nil
	}
	ch := store.ChannelRef{App: q.app.ID, Owner: m.From, Type: ev.ChannelType, Channel: ev.Channel}
	shown, err := f.d.Store.PushShown(ctx, ch)
	if err != nil || shown.IsZero() || shown.Compare(f.unshown[ch]) <= 0 {
		return err
	}
	view, err := f.d.Store.View(ctx, ch)
	if err != nil {
		return err
	}
	if view.Settled().Compare(shown) >= 0 {
		if f.unshown == nil {
			f.unshown = map[store.ChannelRef]chat.UID{}
		}
		f.unshown[ch] = shown
		return f.unshow(ctx, q, ch, shown, true)
	}
	// One by one, those that are shown: newest first.
	left := withdrawMost
	for i := len(ev.UIDs) - 1; i >= 0 && left > 0; i-- {
		if uid := ev.UIDs[i]; uid.Compare(shown) <= 0 && uid.Compare(view.Settled()) > 0 {
			left--
			if err := f.unshow(ctx, q, ch, uid, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// unshow puts into the change what takes back what is shown of a message of the
// channel, or of all up to it.
func (f *follower) unshow(ctx context.Context, q *request, ch store.ChannelRef, uid chat.UID, all bool) error {
	ref, err := f.d.refOf(ctx, q.app.ID, uid)
	if err != nil || ref.IsZero() {
		return err
	}
	jobs, err := f.d.withdrawals(ctx, q.app, q.setup, ch.Owner, uid, ref, q.due)
	jobs, _ = f.d.backs.unclaimed(jobs, ch, all, f, f.d.Now())
	f.change.Put = append(f.change.Put, jobs...)
	return err
}

// unshowRecalled takes back what is shown of a recalled message to those whom the
// recall itself does not notify: nothing takes its place there.
func (f *follower) unshowRecalled(ctx context.Context, q *request, place int, reason push.Reason) error {
	t, m := &q.given[place], q.send.Message
	if !q.notified || t.ID == m.From || reason == push.ReasonAway || reason == push.ReasonNoDevice || !q.app.Settings.PushWithdraw {
		return nil
	}
	view, err := f.d.Store.View(ctx, store.ChannelRef{App: q.app.ID, Owner: t.ID, Type: m.ChannelType, Channel: m.From})
	if err != nil || view.Settled().Compare(m.Event.UID) >= 0 { // and was taken back for that
		return err
	}
	jobs, err := f.d.withdrawals(ctx, q.app, q.setup, t.ID, q.ref.Plus(place), q.ref, q.due)
	f.change.Put = append(f.change.Put, jobs...)
	return err
}

// muteRecall is unshowRecalled for a recall that notifies nobody at all.
func (f *follower) muteRecall(ctx context.Context, q *request) error {
	given, err := f.d.Store.Given(ctx, q.ref)
	if chat.KindOf(err) == chat.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	q.given = given
	if _, _, err := f.recalls(ctx, q, f.d.Now()); err != nil {
		return err
	}
	for i := range given {
		if err := f.unshowRecalled(ctx, q, i, push.ReasonDisabled); err != nil {
			return err
		}
	}
	return nil
}

// shownLate takes back what was read while it was on its way to a device: the
// follower had nothing to take back then. It is told of what is shown once that is
// written, so that one of the two sees the other.
func (d *Dispatcher) shownLate(ctx context.Context, x *store.PushShownOf, device string) error {
	ch := &x.Channel
	app := d.Directory.AppByID(ch.App)
	if app == nil {
		return nil
	}
	view, err := d.Store.View(ctx, *ch)
	if err != nil {
		return err
	}
	all := view.Settled().Compare(x.UID) >= 0
	if !all {
		marks, err := d.Store.Marks(ctx, *ch, x.UID, x.UID)
		if err != nil {
			return err
		}
		gone, err := d.casts.isRecalled(ctx, x.UID) // of a broadcast
		if err != nil {
			return err
		}
		for i := range marks {
			gone = gone || marks[i].Mark == store.MarkHidden || marks[i].Mark == store.MarkRead
		}
		if !gone { // recalls are told of what was being notified, and wait for it
			return nil
		}
	}
	s, err := d.setupOf(ctx, app)
	if err != nil {
		return err
	}
	ref, err := d.refOf(ctx, app.ID, x.UID)
	if err != nil || ref.IsZero() {
		return err
	}
	jobs, err := d.withdrawals(ctx, app, s, ch.Owner, x.UID, ref, d.Now().UnixMilli())
	jobs = slices.DeleteFunc(jobs, func(j store.PushJob) bool { return j.Device != device })
	jobs, claimed := d.backs.unclaimed(jobs, *ch, all, nil, d.Now())
	if err != nil || len(jobs) == 0 {
		return err
	}
	// That the message is shown stays written: other devices may still show it, and
	// the follower be on its way.
	if err = d.write(ctx, &store.PushChange{Put: jobs}); err != nil {
		d.backs.failed(claimed)
	}
	return err
}
