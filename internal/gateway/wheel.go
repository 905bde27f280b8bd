package gateway

import (
	"sync"
	"sync/atomic"
	"time"
)

// A wheel is one timer for all connections: a timer of the runtime for each
// would cost 100 bytes and a place in a heap, and none here needs to be exact.
//
// A connection is in it at most once, at the earliest of its deadlines.
type wheel struct {
	tick  time.Duration
	start time.Time
	now   atomic.Uint32 // ticks so far; starts at 1 so that 0 is no time

	mu    sync.Mutex // tier 4: nothing is taken inside
	slots [wheelSlots]*conn
}

const wheelSlots = 512

// wheelLink is a connection's place in the wheel, guarded by the wheel's mutex.
type wheelLink struct {
	prev, next *conn
	at         uint32 // 0 when it is in no slot
}

func newWheel(tick time.Duration) *wheel {
	w := &wheel{tick: tick, start: time.Now()}
	w.now.Store(1)
	return w
}

// after is the tick at which d will have passed.
func (w *wheel) after(d time.Duration) uint32 {
	return w.now.Load() + uint32(d/w.tick) + 1
}

// set makes c due at the given tick unless it is due earlier already: who is
// due too early finds nothing to do and sets itself again, which is cheaper
// than moving it each time that a deadline is put off.
func (w *wheel) set(c *conn, at uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.timer.at != 0 {
		if c.timer.at <= at {
			return
		}
		w.unlink(c)
	}
	slot := &w.slots[at%wheelSlots]
	c.timer = wheelLink{next: *slot, at: at}
	if *slot != nil {
		(*slot).timer.prev = c
	}
	*slot = c
}

func (w *wheel) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.timer.at != 0 {
		w.unlink(c)
	}
}

func (w *wheel) unlink(c *conn) {
	l := &c.timer
	if l.next != nil {
		l.next.timer.prev = l.prev
	}
	if l.prev != nil {
		l.prev.timer.next = l.next
	} else {
		w.slots[l.at%wheelSlots] = l.next
	}
	*l = wheelLink{}
}

// advance moves to the tick that it is now and takes out who is due.
func (w *wheel) advance(due []*conn) []*conn {
	to := uint32(time.Since(w.start)/w.tick) + 1
	for at := w.now.Load() + 1; at <= to; at++ {
		w.now.Store(at)
		w.mu.Lock()
		for c := w.slots[at%wheelSlots]; c != nil; {
			next := c.timer.next
			if c.timer.at <= at { // later ones are of another round
				w.unlink(c)
				due = append(due, c)
			}
			c = next
		}
		w.mu.Unlock()
	}
	return due
}

// run calls tick for every connection that is due, until stop is closed.
func (w *wheel) run(stop <-chan struct{}) {
	t := time.NewTicker(w.tick)
	defer t.Stop()
	var due []*conn
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		due = w.advance(due[:0])
		for i, c := range due {
			due[i] = nil
			c.tick(w.now.Load())
		}
	}
}
