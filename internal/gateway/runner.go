package gateway

import (
	"sync"

	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/websocket"
)

// The states of a connection towards its runner.
const (
	schedIdle    uint32 = iota
	schedQueued         // in the runner's queue
	schedRunning        // having its turn
	schedAgain          // having its turn, and something came up meanwhile
	schedBlocked        // a goroutine waits for the socket; a turn follows
)

// A runner gives connections their turns: collect what waits for one, write
// it, go on to the next. A few runners serve all connections, each its share,
// so that ten thousand connections that have something to say are a queue of
// ten thousand pointers, not ten thousand goroutines.
type runner struct {
	g *Gateway

	mu         sync.Mutex // tier 4: nothing is taken inside
	nonempty   sync.Cond
	head, tail *conn // linked by conn.nextTurn
	depth      int
	stopped    bool

	// What a turn needs, kept for the next one.
	out     joiner
	entries []store.Entry
	scratch []byte
}

func newRunner(g *Gateway) *runner {
	r := &runner{g: g}
	r.nonempty.L = &r.mu
	return r
}

func (r *runner) push(c *conn) {
	r.mu.Lock()
	if r.tail == nil {
		r.head = c
	} else {
		r.tail.nextTurn = c
	}
	r.tail = c
	r.depth++
	r.mu.Unlock()
	r.nonempty.Signal()
}

func (r *runner) pop() *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.head == nil {
		if r.stopped {
			return nil
		}
		r.nonempty.Wait()
	}
	c := r.head
	if r.head = c.nextTurn; r.head == nil {
		r.tail = nil
	}
	c.nextTurn = nil
	r.depth--
	return c
}

func (r *runner) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.nonempty.Signal()
}

func (r *runner) run() {
	for c := r.pop(); c != nil; c = r.pop() {
		c.sched.Store(schedRunning)
		switch r.turn(c) {
		case turnDone:
			if !c.sched.CompareAndSwap(schedRunning, schedIdle) {
				c.sched.Store(schedQueued)
				r.push(c)
			}
		case turnMore:
			c.sched.Store(schedQueued)
			r.push(c)
		case turnBlocked:
			// Whoever waits for the socket schedules the next turn.
		}
	}
}

// schedule gives the connection a turn soon.
func (c *conn) schedule() {
	for {
		switch s := c.sched.Load(); s {
		case schedIdle:
			if c.sched.CompareAndSwap(s, schedQueued) {
				c.runner.push(c)
				return
			}
		case schedRunning:
			if c.sched.CompareAndSwap(s, schedAgain) {
				return
			}
		default: // a turn is coming in any case
			return
		}
	}
}

type turnResult uint8

const (
	turnDone turnResult = iota
	turnMore
	turnBlocked
)

// turnBytes is about how much is collected in one turn: what a slow reader can
// make the server hold of its timeline, and how long others wait for it.
const turnBytes = 64 << 10

// turn collects what waits for c, up to about turnBytes, and writes it in one
// go: answers and room publications from the queue, then the timeline from the
// store, then a ping.
func (r *runner) turn(c *conn) turnResult {
	j := &r.out
	j.reset()

	c.mu.Lock()
	if c.state == stateClosed || c.said {
		c.mu.Unlock()
		return turnDone
	}
	for c.queue.waiting > 0 && len(j.buf) < turnBytes {
		j.add(c.queue.pop())
	}
	more := c.queue.waiting > 0
	c.makeRoomLocked()
	closing, live, ping := c.closing, c.state == stateLive, c.pingDue
	c.mu.Unlock()

	if live && closing == nil {
		if ping && !c.behind.Load() && r.g.missedWake(c) {
			c.behind.Store(true)
		}
		if c.behind.Load() {
			if len(j.buf) < turnBytes {
				c.behind.Store(false)
				more = r.pump(c) || more
			} else {
				more = true
			}
		}
		if ping {
			j.begin(2, frameReply)
			j.buf = append(j.buf, "{}"...)
			c.pinged()
		}
	}
	out := j.bytes()
	if closing != nil && !more {
		out = websocket.AppendClose(out, closing.Code, closing.Reason)
		j.buf = out
		c.mu.Lock()
		c.said = true
		c.mu.Unlock()
	}
	if len(out) == 0 {
		return turnDone
	}
	r.g.metrics.wrote(j)
	n, err := c.wire.try(out)
	switch {
	case err == nil:
		c.written()
		if more {
			return turnMore
		}
		return turnDone
	case err == errAgain:
		c.block(append([]byte(nil), out[n:]...))
		return turnBlocked
	}
	c.lose()
	return turnDone
}

// lose ends a connection that cannot be written to. Its reader finds the same
// error, or this makes it; it may be waiting for the queue to empty, too.
func (c *conn) lose() {
	c.disconnect(closeLost)
	c.wire.abort()
}

// block leaves the rest of a turn's bytes to a goroutine that waits for the
// socket. It ends with the connection at the latest.
func (c *conn) block(rest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateClosed {
		return // a room's pump may be late; Run may be done waiting for writers
	}
	c.resting = int32(len(rest))
	c.drainAt = c.g.wheel.after(c.g.opts.DrainTimeout)
	c.armLocked()
	c.sched.Store(schedBlocked)
	c.g.writers.Go(func() {
		err := c.wire.write(rest, func() {
			c.mu.Lock()
			c.drainAt = c.g.wheel.after(c.g.opts.DrainTimeout)
			c.mu.Unlock()
		})
		c.mu.Lock()
		c.resting, c.drainAt = 0, 0
		c.makeRoomLocked()
		c.mu.Unlock()
		if err != nil {
			c.lose()
		} else {
			c.written()
		}
		c.sched.Store(schedQueued)
		c.runner.push(c)
	})
}

// written follows a turn whose bytes have all left.
func (c *conn) written() {
	c.mu.Lock()
	said, peer := c.said, c.left
	c.noteWrittenLocked()
	c.mu.Unlock()
	switch {
	case !said:
	case peer:
		c.wire.abort() // both sides have said goodbye
	default:
		c.wire.finish()
	}
}
