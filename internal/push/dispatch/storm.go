package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	stormAfter   = 5 // notifications of one device
	stormWindow  = 10 * time.Second
	summaryPause = time.Minute
	// summaryAhead is how long before it expires a notification that stands for others
	// is told at the latest, and summaryLeast what has to be over of the pause by then.
	summaryAhead = 10 * time.Second
	summaryLeast = summaryPause / 2
	// heldBack is how far back those are looked for that one stands for.
	heldBack = 200
)

// storms know which devices get more notifications than anybody wants. Calls and
// mentions are not among what is counted.
type storms struct {
	since     time.Time        // of the window
	now, last map[uint64]uint8 // notifications per device, in this window and the one before
	held      map[uint64]*held
}

// held is what a device in a storm is told next.
type held struct {
	until int64 // Unix ms
	has   bool
	job   store.PushJob   // stands for all of them
	going store.PushPlace // of the one before, which is about to be sent
}

func (s *storms) turn(now time.Time) {
	switch age := now.Sub(s.since); {
	case age < 0: // the clock was put back
		s.last = nil
	case age < stormWindow:
		return
	case age < 2*stormWindow:
		s.last = s.now
	default:
		s.last = nil
	}
	s.now, s.since = map[uint64]uint8{}, now
	for h, c := range s.held {
		if !c.has && c.until <= now.UnixMilli() {
			delete(s.held, h)
		}
	}
}

// due is when the device is told by the job: once the pause is over, or before it
// expires, lest a storm of what is short-lived is told of by nothing.
func (c *held) due(j *store.PushJob) int64 {
	return max(min(c.until, j.Expires-summaryAhead.Milliseconds()), c.until-(summaryPause-summaryLeast).Milliseconds())
}

// stormy reports whether the job is of those that a device can get too much of.
func stormy(j *store.PushJob) bool {
	return j.Priority > priorityMention && !j.Silent && j.Kind == store.PushMessage
}

// took counts what a device was told of. Attempts that came to nothing disturb
// nobody.
func (s *storms) took(j *store.PushJob, now time.Time) {
	if stormy(j) {
		s.turn(now)
		s.now[hashOf(j.User, j.Device)]++
	}
}

// over notes that a job is over: it stands for no others any more.
func (s *storms) over(j *store.PushJob) {
	if len(s.held) == 0 || !stormy(j) {
		return
	}
	if c := s.held[hashOf(j.User, j.Device)]; c != nil && c.has && c.job.PushPlace == j.PushPlace {
		c.has = false
	}
}

// hold reports whether the job is not to be sent now, since its device gets too
// much: of those, one is left that stands for all, a minute later.
func (l *lane) hold(j *store.PushJob, now time.Time) bool {
	if !stormy(j) {
		return false
	}
	h := hashOf(j.User, j.Device)
	ms := now.UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.storms
	s.turn(now)
	c := s.held[h]
	if c != nil { // longer than that it is only when the clock was put back
		c.until = min(c.until, ms+summaryPause.Milliseconds())
	}
	if c != nil && c.going == j.PushPlace {
		c.going = store.PushPlace{}
		return false
	}
	switch {
	case c == nil:
	case c.has && c.job.PushPlace == j.PushPlace:
		c.until, c.has = ms+summaryPause.Milliseconds(), false
		return false
	case !c.has && ms >= c.until: // it was over long ago
		delete(s.held, h)
		c = nil
	}
	if c == nil {
		if s.now[h]+s.last[h] < stormAfter {
			return false
		}
		c = &held{until: ms + summaryPause.Milliseconds()}
		if s.held == nil {
			s.held = map[uint64]*held{}
		}
		s.held[h] = c
	}
	l.freeLocked(j)
	if c.has {
		if _, taken := l.inHand[keyOf(&c.job)]; taken && ms >= c.job.Due {
			// It is about to be sent: this one waits for the next.
			c.until, c.has, c.going = ms+summaryPause.Milliseconds(), false, c.job.PushPlace
		}
	}
	next := *j
	if c.has {
		older := c.job
		if older.UID.Compare(next.UID) > 0 {
			older, next = next, older
		}
		next.Held += older.Held + 1
		next.Attempts = 0
		l.inHand[keyOf(&older)] = struct{}{}
		l.inHand[keyOf(&next)] = struct{}{}
		l.end(&older, &store.PushOutcome{Class: "coalesced"}, nil)
	}
	kept := next
	next.Due = c.due(&next)
	l.d.settler.add(settled{lane: l, drop: kept, put: &next})
	c.job, c.has = next, true
	return true
}

// othersLeft reports whether others that a notification stands for may be left when
// its own message has ended so.
func othersLeft(class string) bool { return class == "recalled" || class == "read" || class == "level" }

// heldBy is the job that takes the place of one that stands for others, when its own
// message is to be told no more: that of the newest of them that still is. There may be
// none.
func (d *Dispatcher) heldBy(ctx context.Context, j *store.PushJob) (*store.PushJob, error) {
	app := d.Directory.AppByID(j.Lane.App)
	if app == nil || j.Offset == 0 {
		return nil, nil
	}
	rules, now := push.RulesOf(&app.Settings), d.Now()
	to, err := d.Store.PushDevice(ctx, app.ID, j.User, j.Device)
	if err != nil || to == nil {
		return nil, err
	}
	list, err := d.Store.Read(ctx, app.ID, j.User, store.Range{Before: j.Offset, Limit: heldBack, Reverse: true}, nil)
	if err != nil {
		return nil, err
	}
	next := *j
	for i := 0; i < len(list) && next.Held > 0; i++ {
		e := &list[i]
		if e.Kind != store.EntryIn {
			continue
		}
		outcomes, err := d.Store.PushOutcomes(ctx, e.UID)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(outcomes, func(o store.PushOutcome) bool { return o.Device == j.Device && o.Class == "coalesced" }) {
			continue
		}
		next.Held--
		next.UID, next.Ref, next.Offset = e.UID, e.Ref, e.Offset
		s, cast, err := d.sends.of(ctx, d.Store, app.ID, next.Ref)
		if chat.KindOf(err) == chat.KindNotFound || errors.Is(err, store.ErrRow) {
			continue
		}
		if err != nil {
			return nil, err
		}
		next.Collapse = collapseOf(s, j.Lane.Provider)
		next.Expires = e.UID.Time().Add(push.Lifetime(s.Type(), push.Alert, rules.Lifetime)).UnixMilli()
		class, err := d.overtaken(ctx, app, &rules, &next, s, cast, to)
		if err != nil {
			return nil, err
		}
		if class == "" && next.Expires > now.UnixMilli() {
			return &next, nil
		}
	}
	return nil, nil
}

// heldBy is that of the dispatcher. Where it panics, or what is stored for it cannot be
// read, there is none.
func (l *lane) heldBy(ctx context.Context, j *store.PushJob) (next *store.PushJob, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.panicked(p)
			next, err = nil, nil
		}
	}()
	if next, err = l.d.heldBy(ctx, j); errors.Is(err, store.ErrRow) {
		next, err = nil, nil
	}
	return next, err
}

// replace ends a job, and has another take its place, which is told at once: its
// device has waited for the pause already.
func (l *lane) replace(j *store.PushJob, out *store.PushOutcome, next *store.PushJob) {
	n := *next
	n.Due, n.Attempts, n.Without, n.Code = l.now().UnixMilli(), 0, 0, ""
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freeLocked(j)
	if c := l.storms.held[hashOf(j.User, j.Device)]; c != nil {
		c.going = n.PushPlace
	}
	e := l.ended(j, out)
	e.put = &n
	l.d.settler.add(e)
}
