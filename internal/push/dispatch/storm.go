package dispatch

import (
	"time"

	"github.com/parleychat/parley/internal/store"
)

const (
	stormAfter   = 5 // notifications of one device
	stormWindow  = 10 * time.Second
	summaryPause = time.Minute
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
		if _, taken := l.inHand[keyOf(&c.job)]; taken && ms >= c.until {
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
		kept := next
		l.end(&older, &store.PushOutcome{Class: "coalesced"}, nil)
		next.Due = c.until
		l.d.settler.add(settled{lane: l, drop: kept, put: &next})
	} else {
		kept := next
		next.Due = c.until
		l.d.settler.add(settled{lane: l, drop: kept, put: &next})
	}
	c.job, c.has = next, true
	return true
}
