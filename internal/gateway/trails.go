package gateway

import (
	"context"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A trail is what a session remembers of itself for the traces of messages. It
// is 32 bytes while nothing happens: idle sessions are the most there are.
type trail struct {
	wrote   uint64                     // the socket has taken the entries up to here
	pending *pending                   // what is not stored yet; nil most of the time
	client  unique.Handle[chat.Client] // there are few of them, whatever clients say
	listed  bool                       // is in trails.dirty
}

// pending is what happened to a session's entries since it was stored last.
// Runs, not entries: a thousand entries cost what one costs.
type pending struct{ written, acked stretch }

// A stretch is the entries above after and up to to, and when the first and
// the last of them came. Zero is none: no entry has offset 0.
type stretch struct {
	after, to   uint64
	from, until int64
}

func (s *stretch) extend(after, to uint64, now int64) {
	if s.to == 0 {
		s.after, s.from = after, now
	}
	s.to, s.until = to, now
}

func (s *stretch) appendTo(list []store.Delivery, d store.Delivery, kind store.DeliveryKind) []store.Delivery {
	if s.to == 0 {
		return list
	}
	d.Kind, d.After, d.To, d.From, d.Until = kind, s.after, s.to, s.from, s.until
	return append(list, d)
}

// trails gathers what sessions remember and stores it in bulk. A crash loses
// what was not stored yet, and so does a store that does not take it: nothing
// but traces depends on it, and memory would.
type trails struct {
	store Store
	now   func() time.Time
	off   bool

	mu    sync.Mutex // tier 3
	dirty []*conn
	ended []store.Delivery // of sessions that are gone

	// flushMu is held while the store is written, so that who has waited for it
	// knows that what was taken from sessions before is stored. Before mu.
	flushMu sync.Mutex

	kept, lost prometheus.Counter
}

const (
	// trailFlush is how often trails are stored, and with that how far apart the
	// two times of a stretch are at most, unless sessions wait for their turn.
	trailFlush = 5 * time.Second
	// trailSessions is how many sessions are stored each time, those that have
	// waited longest. A row costs about 1.5 µs, of which most is finding its
	// place in the store's memory; this bounds all of them to about a hundredth
	// of a core. Where more sessions are given something, the others wait, and their
	// ranges grow in place of their number.
	trailSessions = 32 << 10
	// maxEnded bounds what sessions that are gone leave behind until then.
	maxEnded = 32 << 10
	// trailPiece is how many deliveries are handed to the store at a time.
	trailPiece = 8192
)

func newTrails(o *Options) *trails {
	t := &trails{store: o.Store, now: o.Now, off: o.NoTrails}
	t.kept = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_trace_ranges_total", Help: "Ranges of timeline entries written to or acknowledged by a session that were stored for traces.",
	})
	t.lost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_trace_ranges_lost_total", Help: "Such ranges that could not be stored: traces lack them.",
	})
	if o.Metrics != nil {
		o.Metrics.MustRegister(t.kept, t.lost)
	}
	return t
}

// noteWrittenLocked follows a turn whose bytes the socket has all taken.
func (c *conn) noteWrittenLocked() {
	after := c.trail.wrote
	if c.pos == after {
		return
	}
	c.trail.wrote = c.pos
	if t := c.g.trails; !t.off {
		t.pendingOf(c).written.extend(after, c.pos, t.now().UnixMilli())
		if c.state == stateClosed {
			// The session has ended during the turn, and nobody asks it any more.
			t.endLocked(c)
		}
	}
}

// noteAckedLocked notes that the client has acknowledged more than before.
func (c *conn) noteAckedLocked(before uint64) {
	if t := c.g.trails; !t.off {
		t.pendingOf(c).acked.extend(before, c.acked, t.now().UnixMilli())
	}
}

// pendingOf is called with c.mu held.
func (t *trails) pendingOf(c *conn) *pending {
	if c.trail.pending == nil {
		c.trail.pending = new(pending)
		if !c.trail.listed {
			c.trail.listed = true
			t.mu.Lock()
			t.dirty = append(t.dirty, c)
			t.mu.Unlock()
		}
	}
	return c.trail.pending
}

// takeLocked appends what c has pending, which is then the caller's to store.
func (c *conn) takeLocked(list []store.Delivery) []store.Delivery {
	p := c.trail.pending
	if p == nil {
		return list
	}
	c.trail.pending = nil
	d := store.Delivery{App: c.app, User: c.user, Session: c.client, Device: c.device, Platform: platformOf(c.trail.client)}
	list = p.written.appendTo(list, d, store.DeliveryWritten)
	return p.acked.appendTo(list, d, store.DeliveryAcked)
}

// endLocked takes over what a session that ends has pending.
func (t *trails) endLocked(c *conn) {
	if c.trail.pending == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ended) >= maxEnded {
		t.lost.Inc()
		c.trail.pending = nil
		return
	}
	t.ended = c.takeLocked(t.ended)
}

// flush stores what sessions have pending, of trailSessions of them at most.
func (t *trails) flush(ctx context.Context) error {
	t.flushMu.Lock()
	defer t.flushMu.Unlock()
	t.mu.Lock()
	dirty, list := t.dirty, t.ended
	t.dirty, t.ended = nil, nil
	t.mu.Unlock()
	list = slices.Grow(list, min(len(dirty), trailPiece))
	var failed error
	put := func() {
		if err := t.put(ctx, list); err != nil {
			failed = err
		}
		list = list[:0]
	}
	taken := 0
	waiting := dirty[:0]
	for _, c := range dirty {
		c.mu.Lock()
		switch {
		case c.trail.pending == nil: // it is gone, or somebody has asked
			c.trail.listed = false
		case taken < trailSessions:
			taken++
			c.trail.listed = false
			list = c.takeLocked(list)
		default:
			waiting = append(waiting, c)
		}
		c.mu.Unlock()
		if len(list) >= trailPiece {
			put()
		}
	}
	put()
	if len(waiting) > 0 {
		clear(dirty[len(waiting):])
		t.mu.Lock()
		t.dirty = append(waiting, t.dirty...)
		t.mu.Unlock()
	}
	return failed
}

func (t *trails) put(ctx context.Context, list []store.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	if err := t.store.PutDeliveries(ctx, list); err != nil {
		t.lost.Add(float64(len(list)))
		return err
	}
	t.kept.Add(float64(len(list)))
	return nil
}

// Settle stores what the users' sessions know of entries being written and
// acknowledged, so that the store knows all that is known.
func (g *Gateway) Settle(ctx context.Context, app chat.AppID, users []string) error {
	t := g.trails
	t.flushMu.Lock()
	defer t.flushMu.Unlock()
	t.mu.Lock()
	list := t.ended
	t.ended = nil
	t.mu.Unlock()
	for _, u := range users {
		g.sessions.each(userKey{app, u}, func(c *conn) {
			c.mu.Lock()
			list = c.takeLocked(list)
			c.mu.Unlock()
		})
	}
	return t.put(ctx, list)
}

// flushTrails stores the trails and reports whether that went well; see
// flushCursors.
func (g *Gateway) flushTrails(timeout time.Duration, wentWell bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := g.trails.flush(ctx)
	switch {
	case err != nil && wentWell:
		g.opts.Logger.Error("storing what traces are made from fails; traces lack it until it is over", "error", err)
	case err == nil && !wentWell:
		g.opts.Logger.Info("what traces are made from is stored again")
	}
	return err == nil
}
