package dispatch

import (
	"context"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// A candidate is a recipient who is not decided upon by what is in memory.
type candidate struct {
	at    int // place among the request's targets
	reach push.Reach
	open  bool // a connection of theirs is there that could still make up for a notification
}

// scratch is what deciding needs, kept for the next request.
type scratch struct {
	candidates []candidate
	users      []string // who they are
	uids       []chat.UID
}

// decide decides upon those of the request's recipients who stand at these places,
// growing; all when it is nil. What follows goes into the change.
//
// What is in memory is asked first, and then whether anything is registered: most
// people are decided upon without another read.
func (f *follower) decide(ctx context.Context, q *request, places []int) error {
	n := len(q.given)
	if places != nil {
		n = len(places)
	}
	if n == 0 {
		return nil
	}
	now := f.d.Now()
	reasons := make([]uint8, n)
	at := func(i int) int {
		if places == nil {
			return i
		}
		return places[i]
	}

	if late, err := f.isLateCopy(ctx, q); err != nil {
		return err
	} else if late {
		for i := range reasons {
			reasons[i] = uint8(push.ReasonBroadcast)
		}
		f.settle(q, now, places, reasons)
		return nil
	}
	if q.send.Type() == push.Recall {
		told, known, err := f.recalls(ctx, q, now)
		if err != nil {
			return err
		}
		if !known || !told {
			for i := range reasons {
				if reasons[i] = uint8(push.ReasonRecalled); !known {
					reasons[i] = store.PushUndecided
				}
			}
			f.settle(q, now, places, reasons)
			return nil
		}
	}

	s := &f.scratch
	s.candidates, s.users = s.candidates[:0], s.users[:0]
	for i := range reasons {
		t := &q.given[at(i)]
		if t.ID == q.send.Message.From {
			reasons[i] = uint8(push.ReasonCopy)
			continue
		}
		c := candidate{at: i}
		if list, _ := f.d.Sessions.Cursors(q.app.ID, t.ID); len(list) > 0 {
			if c.reach = push.ReachOf(t.Offset, list); c.reach != push.Away {
				if reason, enough := reachedBy(c.reach, &q.rules); enough {
					reasons[i] = uint8(reason)
					continue
				}
			}
			c.open = !q.final && push.Undecided(t.Offset, list, &q.rules)
		}
		s.candidates, s.users = append(s.candidates, c), append(s.users, t.ID)
	}
	devices, err := f.d.Store.PushDevicesOf(ctx, q.app.ID, s.users)
	if err != nil {
		return err
	}
	// What is left is read at once: of those who are away, and have a device.
	left := 0
	about := q.about()
	s.uids = s.uids[:0]
	for i, c := range s.candidates {
		t := &q.given[at(c.at)]
		switch {
		case len(devices[i]) == 0:
			reasons[c.at] = uint8(push.ReasonNoDevice)
		case c.open:
			reasons[c.at] = store.PushUndecided
			f.d.Sessions.Probe(q.app.ID, t.ID, t.Offset)
		default:
			s.candidates[left], s.users[left], devices[left] = c, t.ID, devices[i]
			s.uids = append(s.uids, about(at(c.at)))
			left++
		}
	}
	m := q.send.Message
	sights, err := f.d.Store.PushSights(ctx, q.app.ID, m.ChannelType, m.From, s.users[:left], s.uids)
	if err != nil {
		return err
	}
	for i, c := range s.candidates[:left] {
		reasons[c.at] = uint8(f.recipient(q, at(c.at), c.reach, devices[i], &sights[i], now))
	}
	if q.notified {
		for i := range reasons {
			if reasons[i] == store.PushUndecided {
				continue
			}
			if err := f.unshowRecalled(ctx, q, at(i), push.Reason(reasons[i])); err != nil {
				return err
			}
		}
	}
	f.settle(q, now, places, reasons)
	return nil
}

// reachedBy is the reason for which somebody is not notified whom the message has
// reached there, if that is enough.
func reachedBy(reach push.Reach, rules *push.Rules) (reason push.Reason, enough bool) {
	if reach == push.Phone {
		return push.ReasonReached, true
	}
	return push.ReasonDesktop, reach == push.Desk && !rules.DespiteDesktop
}

// settle puts into the change the reasons of those who are decided upon, and that
// the others are looked at again.
func (f *follower) settle(q *request, now time.Time, places []int, reasons []uint8) {
	if slices.Contains(reasons, store.PushUndecided) {
		l := store.PushLook{Due: now.Add(f.d.Patience).UnixMilli(), Ref: q.ref, App: q.app.ID}
		rest, decided := make([]int, 0, len(reasons)), reasons[:0]
		for i, r := range reasons {
			at := i
			if places != nil {
				at = places[i]
			}
			if r == store.PushUndecided {
				l.Targets = append(l.Targets, at)
			} else {
				rest, decided = append(rest, at), append(decided, r)
			}
		}
		f.change.Look = append(f.change.Look, l)
		if places, reasons = rest, decided; len(rest) == 0 {
			return
		}
	}
	f.change.Reasons = append(f.change.Reasons, store.PushReasonsOf{Ref: q.ref, Count: len(q.given), Targets: places, Reasons: reasons})
	f.reasons += len(reasons)
	for _, r := range reasons {
		f.d.deciding.recipient(q.effect, push.Reason(r))
	}
}

// about gives the message that counts as read, or not, of the recipient at a place:
// with a recall the one that is taken back.
func (q *request) about() func(place int) chat.UID {
	if q.send.Type() == push.Recall {
		return func(int) chat.UID { return q.send.Message.Event.UID }
	}
	return q.ref.Plus
}

// recipient decides upon somebody with devices, and puts the jobs for those that
// are to be notified into the change.
func (f *follower) recipient(q *request, place int, reach push.Reach, devices []chat.PushDevice, sight *store.PushSight, now time.Time) push.Reason {
	t, uid := &q.given[place], q.ref.Plus(place)
	for i := range sight.Cursors {
		// Of another epoch, offsets say nothing.
		if d := &sight.Cursors[i]; d.Epoch == f.epoch {
			reach = max(reach, push.ReachOf(t.Offset, []push.Cursor{{Platform: d.Platform, Offset: d.Offset}}))
		}
	}
	if reason, enough := reachedBy(reach, &q.rules); enough {
		return reason
	}
	r := push.Recipient{ID: t.ID, Reach: reach, Devices: devices}
	q.fill(&r, uid, sight, now)
	sentAt := time.UnixMilli(q.ref.Millis())
	d := push.Decide(q.send, &r, &q.rules, now, sentAt)
	if d.Effect == push.None {
		return d.Reason
	}
	return f.notify(q, &r, &d, store.PushJob{
		PushPlace: store.PushPlace{Due: q.due, UID: uid, User: t.ID}, Priority: priorityOf(q.send, d.Effect, t.ID),
		Silent: d.Effect == push.Silent, Ref: q.ref, Offset: t.Offset, MadeAt: now.UnixMilli(),
		Expires: sentAt.Add(push.Lifetime(q.send.Type(), d.Effect, q.rules.Lifetime)).UnixMilli(),
	})
}

// notify puts a job like the given one into the change for each device that the
// decision has for it.
func (f *follower) notify(q *request, r *push.Recipient, d *push.Decision, job store.PushJob) push.Reason {
	reason := push.ReasonNoCredential
	for i := range r.Devices {
		to := &r.Devices[i]
		if d.Devices[i] == push.None {
			continue
		}
		c := q.setup.credential(to)
		if c == nil {
			continue
		}
		j := job
		j.Lane, j.Device, j.Collapse = laneOf(q.app.ID, c, to), to.ID, collapseOf(q.send, to.Provider)
		f.change.Put = append(f.change.Put, j)
		reason = d.Reason
	}
	return reason
}

// fill fills in what is known of the recipient besides where they were reached and by
// which devices they can be.
func (q *request) fill(r *push.Recipient, uid chat.UID, sight *store.PushSight, now time.Time) {
	if u := sight.User; u != nil {
		r.Deleted, r.Banned = u.Deleted(), u.Banned(now)
	}
	if p := sight.Preferences; p != nil {
		r.Notify.Quiet, r.Notify.Type = p.Quiet, p.Levels[q.send.Message.ChannelType]
	}
	about, recall := uid, q.send.Type() == push.Recall
	if recall {
		about = q.send.Message.Event.UID
	}
	if v := sight.View; v != nil {
		r.Notify.Channel = v.Level
		// Who has read what is recalled is still told that it was; who has thrown it
		// away is not.
		r.Read = v.ReadUpTo.Compare(uid) >= 0 || v.ClearedUpTo.Compare(about) >= 0 || v.RemovedUpTo.Compare(about) >= 0
	}
	for i := range sight.Marks {
		switch sight.Marks[i].Mark {
		case store.MarkHidden:
			r.Read = true
		case store.MarkRead:
			r.Read = r.Read || !recall
		case store.MarkRecalled:
			r.Recalled = true
		}
	}
}

// recalls says whether a recall is told to its recipient at all: to who was
// notified of what it takes back, or has seen it. known is false as long as that is
// not decided upon.
func (f *follower) recalls(ctx context.Context, q *request, now time.Time) (told, known bool, err error) {
	uid := q.send.Message.Event.UID
	found, err := f.d.Store.Find(ctx, q.app.ID, uid)
	if chat.KindOf(err) == chat.KindNotFound {
		return false, true, nil
	}
	if err != nil {
		return false, false, err
	}
	if effect, _ := push.NewSend(found.Message).Decide(&q.rules); effect == push.None {
		return false, true, nil
	}
	// The reason may be among what is not written yet.
	if err := f.write(ctx, false); err != nil {
		return false, false, err
	}
	reasons, err := f.d.Store.PushReasons(ctx, found.Placed.First)
	if err != nil {
		return false, false, err
	}
	if i := uid.IndexIn(found.Placed.First, len(found.Targets)); i >= 0 && i < len(reasons) && reasons[i] != store.PushUndecided {
		reason := push.Reason(reasons[i])
		q.notified = reason == push.ReasonAway
		switch reason {
		case push.ReasonAway, push.ReasonReached, push.ReasonDesktop, push.ReasonRead:
			return true, true, nil
		}
		return false, true, nil
	}
	// It is being looked at again, which is over before this is looked at again; or
	// it never was, or that is not kept any more.
	return false, q.final || now.Sub(uid.Time()) > f.d.Grace+2*f.d.Patience, nil
}

// priorityOf is the priority of a job: calls first, then mentions, then others, and
// what nobody sees last.
func priorityOf(s *push.Send, effect push.Effect, user string) uint8 {
	switch {
	case effect == push.Silent:
		return prioritySilent
	case strings.HasPrefix(s.Type(), "RC:VC"): // as push.Lifetime has it
		return priorityCall
	case s.Mention.Of(user):
		return priorityMention
	}
	return priorityUsual
}

// collapseOf is what the sender wants the notification to take the place of, with
// this provider; 0 for nothing.
func collapseOf(s *push.Send, p chat.PushProvider) uint64 {
	key := ""
	switch p {
	case chat.APNs:
		key = s.Ext.APNs.CollapseID
	case chat.FCM:
		key = s.Ext.FCM.CollapseKey
	case chat.WEB:
		key = s.Ext.WEB.Tag
	}
	if key == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return max(h.Sum64(), 1)
}
