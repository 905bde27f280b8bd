package gateway

import "github.com/parleychat/parley/internal/room"

// User is part of room.Member.
func (s *seat) User() string { return s.c.user }

// Deliver is part of room.Member. A connection that has nothing else to do is
// written to at once, by the pump that calls: the bytes are the same for all and
// not copied, and going through a queue and a runner would cost a sixth as much
// as the write itself. Everybody else finds the batch in their queue, each
// publication by itself, where it is joined with what else there is, and can be
// given up.
func (s *seat) Deliver(b *room.Batch, after uint64) (behind bool) {
	c := s.c
	shared := b.Whole(after) && !b.From(c.user)
	c.mu.Lock()
	switch {
	case s.Left || c.state != stateLive || c.closing != nil:
	case !s.Live:
		s.waitLocked(b.Since(after))
	case shared && c.sched.CompareAndSwap(schedIdle, schedRunning):
		// Whoever pushes schedules, under mu: an idle connection's queue is empty.
		c.mu.Unlock()
		c.writeBatch(b)
		return false
	default:
		behind = c.queue.expend > 0 || c.sched.Load() == schedBlocked
		s.queueLocked(b.Since(after))
	}
	c.mu.Unlock()
	return behind
}

// waitLocked keeps publications for when the seat is live.
func (s *seat) waitLocked(list []*room.Publication) {
	if s.early == nil {
		s.early = new(early)
	}
	for _, p := range list {
		if !p.For(s.c.user) {
			continue
		}
		if len(s.early.list) == maxEarly {
			s.c.g.metrics.dropped(p.Rank())
			continue
		}
		s.early.list = append(s.early.list, p)
	}
}

// queueLocked queues publications by themselves. Each is encoded by the first
// who needs it.
func (s *seat) queueLocked(list []*room.Publication) {
	for _, p := range list {
		if p.For(s.c.user) {
			s.c.pushDroppableLocked(frame{openForm(p, s.c.user), frameOf(p.Rank())})
		}
	}
}

// formJoined is the form of a batch that everybody shares who gets all of it.
const formJoined = 0

// joinBatch makes the WebSocket messages of a batch, headers and all.
func joinBatch(b *room.Batch) []byte {
	var j joiner
	j.reset()
	for _, p := range b.Publications {
		j.add(frame{p.Form(formIn, renderOpenIn), frameOpen})
	}
	return j.bytes()
}

// writeBatch writes a batch in a turn that the caller has taken.
func (c *conn) writeBatch(b *room.Batch) {
	out := b.Form(formJoined, joinBatch)
	n, err := c.wire.try(out)
	c.g.metrics.wroteBatch(len(b.Publications))
	switch err {
	case nil:
	case errAgain:
		c.block(out[n:]) // shared, and only read
		return
	default:
		c.lose()
	}
	if !c.sched.CompareAndSwap(schedRunning, schedIdle) {
		c.sched.Store(schedQueued)
		c.runner.push(c)
	}
}
