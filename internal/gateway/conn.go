package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/websocket"
)

// The states of a connection.
const (
	stateNew    uint8 = iota // before a successful connect command
	stateLive                // a session of a user
	stateClosed              // gone; nothing may be queued any more
)

// The beats of a connection: what its next regular deadline means.
const (
	beatStale uint8 = iota // the connect command must have come
	beatPing               // a ping is due
	beatPong               // a pong must have come
)

// A conn is one connection and, once it has connected, the session of one of a
// user's devices.
//
// A session is a cursor over the user's timeline. Whatever makes it look, it
// reads from its position to the durable head and writes what it finds; so
// recovery, catching up and live delivery are the same thing, and a wake-up
// that comes twice, or late, does no harm.
//
// Two goroutines have to do with a conn at a time: one reads and carries out
// commands, a runner (or a room's pump in its place) writes. Fields are grouped by who may touch them. There
// are many conns, so it is worth keeping them small.
//
// Locks are taken in the order of their tiers: a registry shard's (1),
// a conn's (2), the device cursors' and the trails' (3), a runner's or the wheel's (4).
type conn struct {
	g      *Gateway
	wire   wire
	runner *runner

	// Of the reading goroutine alone.
	parser     websocket.Parser
	seats      []*seat // open channels it is in
	calls      bucket  // commands
	sends      bucket  // message.send, open.metadata.set and remove
	registered bool    // is in the registry

	// Set by connect before the state is stateLive, fixed from then on.
	app      chat.AppID
	user     string
	device   string
	client   [16]byte
	issuedAt int64 // of the token; changed by refresh under mu

	sched    atomic.Uint32
	behind   atomic.Bool // the timeline may have grown past pos
	busy     atomic.Bool // the reading goroutine is at work
	typed    pace        // of the reading goroutine; here there is room for it
	nextTurn *conn       // guarded by runner.mu

	timer wheelLink // guarded by wheel.mu

	nextAll, prevAll *conn // guarded by everyone.mu
	nextOfUser       *conn // guarded by the registry shard's mutex

	// mu is tier 2. It is never held while the socket is used: closing that
	// waits for its users, and they take mu.
	mu         sync.Mutex
	state      uint8
	beat       uint8
	pingDue    bool
	pingAgain  bool // another ping is wanted when the pong under way is here
	catching   bool // still recovering: not yet been at the head
	said       bool // the close frame is written, or on its way
	left       bool // the client sent a close frame
	background bool // the client says that its user does not look
	closing    *DisconnectRow
	room       chan struct{} // closed when the queue has room again; nil when nobody waits

	// pos is the newest offset given to the client. Only the runner moves it
	// once the session is live, and only under mu.
	pos     uint64
	pingPos uint64 // pos when the ping under way was sent
	acked   uint64
	trail   trail

	queue   queue
	resting int32 // bytes of a turn that wait for the socket
	unread  int32 // what the socket held when the pong was last overdue

	// Deadlines in ticks of the wheel, 0 for none.
	beatAt   uint32
	drainAt  uint32
	expireAt uint32
	closeAt  uint32
	retryAt  uint32
}

// closeWait is how long the goodbye may take.
const closeWait = 5 * time.Second

// await is a connection's own goroutine while it waits. It never does more
// than that: a goroutine's stack that has grown does not shrink all the way
// back, so what has arrived is handled and then waited for by a new one. That
// keeps an idle connection's stack at 2 KiB instead of 8.
func (c *conn) await() {
	in, err := c.wire.read()
	c.proceed(in, err)
}

//go:noinline
func (c *conn) proceed(in *inbound, err error) {
	if err != nil {
		c.end()
		return
	}
	c.feed(in.bytes())
	in.release()
	go c.await()
}

// begin is the connection's goroutine at its start, with what came behind the
// handshake.
func (c *conn) begin(leftover []byte) {
	if len(leftover) > 0 {
		c.feed(leftover)
	}
	go c.await()
}

// feed takes bytes from the client, cut anywhere.
func (c *conn) feed(b []byte) {
	c.busy.Store(true)
	err := c.parser.Feed(b, c)
	c.busy.Store(false)
	if err == nil {
		return
	}
	if d, ok := errors.AsType[*DisconnectRow](err); ok {
		c.disconnect(d)
		return
	}
	code, reason := websocket.CloseCode(err)
	c.disconnect(&DisconnectRow{Code: code, Reason: reason})
}

// Error makes a DisconnectRow something that the handling of a command can
// end with.
func (d *DisconnectRow) Error() string { return d.Reason }

// Message takes one WebSocket message.
func (c *conn) Message(op websocket.Opcode, payload []byte) error {
	if c.isClosing() && op != websocket.Close {
		return nil
	}
	switch op {
	case websocket.Text:
		return c.commands(payload)
	case websocket.Binary:
		return closeInapt
	case websocket.Ping:
		if !c.calls.take(c.g.opts.commands, time.Since(c.g.start)) && c.calls.empty(c.g.opts.commands) {
			return closeTooMany
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		// A control frame cannot be joined with others; it waits for its turn
		// like them.
		c.pushLocked(frame{websocket.AppendFrame(nil, websocket.Pong, payload), frameControl})
		return nil
	case websocket.Close:
		code, _ := websocket.ParseClose(payload)
		if code == websocket.CodeNoStatus {
			code = websocket.CodeNormal
		}
		c.mu.Lock()
		c.left = true
		said := c.said
		c.mu.Unlock()
		if said {
			c.wire.abort()
		}
		c.disconnect(&DisconnectRow{Code: code, When: closedByClient})
	}
	return nil
}

// closedByClient marks a close that the client began.
const closedByClient = "client"

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil || c.state == stateClosed
}

// reply queues an answer. It does not block; who answers much waits for room
// between one command and the next.
func (c *conn) reply(b []byte) {
	c.mu.Lock()
	c.pushLocked(frame{b, frameReply})
	c.mu.Unlock()
}

// pushLocked queues a frame and asks for a turn.
func (c *conn) pushLocked(f frame) {
	if c.state == stateClosed || c.closing != nil {
		return
	}
	c.queue.push(f)
	c.schedule()
}

// pushDroppableLocked queues a frame that can be done without. When too much of
// that kind waits already, what is of a lower rank makes way for it, or it is
// dropped. What is never dropped ends the connection when there is too much of
// it: a client that is so far behind does better to come back.
func (c *conn) pushDroppableLocked(f frame) {
	if c.state != stateLive || c.closing != nil {
		return
	}
	if !f.kind.expendable() {
		if int(c.queue.bytes) > 2*c.g.opts.QueueBytes {
			c.disconnectLocked(closeSlow)
			return
		}
	} else if over := int(c.queue.expend) + len(f.b) - c.g.opts.QueueBytes; over > 0 && c.queue.expend > 0 {
		if !c.queue.giveUp(f.kind.rank(), over, c.g.metrics.dropped) {
			c.g.metrics.dropped(f.kind.rank())
			return
		}
	}
	c.queue.push(f)
	c.schedule()
}

// waitForRoom keeps the reading goroutine from taking more commands while
// their answers are not being read.
func (c *conn) waitForRoom() {
	for {
		c.mu.Lock()
		if c.closing != nil || c.state == stateClosed || int(c.queue.bytes+c.resting) <= c.g.opts.QueueBytes {
			c.mu.Unlock()
			return
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.g.life.Done():
			return
		}
	}
}

func (c *conn) makeRoomLocked() {
	if c.room != nil && (int(c.queue.bytes+c.resting) <= c.g.opts.QueueBytes/2 || c.closing != nil) {
		close(c.room)
		c.room = nil
	}
}

// disconnect closes the connection: what is queued is written, then the close
// frame. The first reason wins.
func (c *conn) disconnect(d *DisconnectRow) {
	c.mu.Lock()
	c.disconnectLocked(d)
	c.mu.Unlock()
}

func (c *conn) disconnectLocked(d *DisconnectRow) {
	if c.closing != nil || c.state == stateClosed {
		return
	}
	c.closing = d
	c.closeAt = c.g.wheel.after(closeWait)
	c.beatAt, c.expireAt, c.retryAt = 0, 0, 0
	c.armLocked()
	c.makeRoomLocked()
	c.g.metrics.disconnected(d)
	c.schedule()
}

// end is the last thing the connection's goroutine does.
func (c *conn) end() {
	c.wire.abort()
	c.parser.Release()
	for _, s := range c.seats {
		c.g.courier.Leave(c.app, s.channel, s, true)
	}
	c.seats = nil

	c.mu.Lock()
	c.state = stateClosed
	c.queue = queue{}
	c.g.trails.endLocked(c)
	if c.closing == nil {
		c.g.metrics.disconnected(closeLost)
	}
	c.mu.Unlock()
	c.g.wheel.remove(c)
	if c.registered {
		c.g.sessions.remove(c)
	}
	c.g.everyone.remove(c)
}

// closeLost stands in the metrics for connections that ended without a word.
var closeLost = &DisconnectRow{When: "lost"}

// armLocked makes the wheel call tick at the earliest deadline.
func (c *conn) armLocked() {
	if c.state == stateClosed {
		return
	}
	if at := c.deadlineLocked(); at != 0 {
		c.g.wheel.set(c, at)
	}
}

func (c *conn) deadlineLocked() uint32 {
	at := uint32(0)
	for _, d := range [...]uint32{c.beatAt, c.drainAt, c.expireAt, c.closeAt, c.retryAt} {
		if d != 0 && (at == 0 || d < at) {
			at = d
		}
	}
	return at
}

// tick does what is due. It runs on the wheel's goroutine and does not wait.
func (c *conn) tick(now uint32) {
	due := func(at uint32) bool { return at != 0 && at <= now }

	// Asking the kernel is left out of the lock.
	unread := -1
	c.mu.Lock()
	overdue := c.beat == beatPong && due(c.beatAt)
	c.mu.Unlock()
	if overdue {
		unread = c.wire.unread()
	}

	if c.tickLocked(due, unread) {
		// Closing a socket waits for those who are using it, and they take mu.
		c.wire.abort()
	}
}

func (c *conn) tickLocked(due func(uint32) bool, unread int) (abort bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateClosed {
		return false
	}
	if due(c.drainAt) {
		// There is no way to say goodbye on a socket that takes nothing.
		c.disconnectLocked(closeSlow)
		return true
	}
	if due(c.closeAt) {
		return true
	}
	if due(c.expireAt) {
		c.disconnectLocked(closeExpired)
	}
	if due(c.retryAt) {
		c.retryAt = 0
		c.behind.Store(true)
		c.schedule()
	}
	if due(c.beatAt) {
		switch c.beat {
		case beatStale:
			c.disconnectLocked(closeStale)
		case beatPing:
			c.beatAt = 0 // set again when the ping is written
			c.pingDue = true
			c.schedule()
		case beatPong:
			c.overdueLocked(unread)
		}
	}
	c.armLocked()
	return false
}

// overdueLocked decides about a pong that has not come. The client cannot have
// answered a ping that it has not got yet, nor can we know of an answer while
// its commands keep us busy; it gets another while as long as its socket
// empties.
func (c *conn) overdueLocked(unread int) {
	draining := unread > 0 && (c.unread == 0 || int32(unread) < c.unread)
	if c.busy.Load() || c.resting > 0 || draining {
		c.unread = int32(max(unread, 0))
		c.beatAt = c.g.wheel.after(c.g.opts.PongTimeout)
		return
	}
	c.disconnectLocked(closeNoPong)
}

// pinged notes that a ping is about to be written: everything up to pos was
// given to the client before it. It comes before the write, since the pong may
// be here before the write returns.
func (c *conn) pinged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pingDue = false
	c.pingPos = c.pos
	c.unread = 0
	c.beat = beatPong
	c.beatAt = c.g.wheel.after(c.g.opts.PongTimeout)
	c.armLocked()
}

// pong takes the client's answer to a ping.
func (c *conn) pong() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateLive || c.beat != beatPong {
		return closeBadRequest // B4: a pong that was not asked for
	}
	c.beat = beatPing
	c.beatAt = c.g.wheel.after(c.g.opts.PingInterval)
	c.armLocked()
	c.ackLocked(c.pingPos)
	if c.pingAgain {
		c.pingAgain = false
		c.pingNowLocked()
	}
	return nil
}

// probe has the client asked for a pong that acknowledges the entry at offset,
// unless it has. While one is on its way the ping follows that: a pong belongs to
// one ping.
func (c *conn) probe(offset uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state != stateLive || c.closing != nil || c.acked >= offset:
	case c.beat == beatPing:
		c.pingNowLocked()
	case c.beat == beatPong && c.pingPos < offset:
		c.pingAgain = true
	}
}

// pingNowLocked makes the next ping due. Before it goes out, the session looks for
// what its timeline has beyond its position.
func (c *conn) pingNowLocked() {
	c.beatAt = 0 // set again when the ping is written
	c.pingDue = true
	c.schedule()
}

// A seat is a session's place in an open channel. There are as many as there are
// participants.
type seat struct {
	// Live says that the answer to the subscribe command is queued, Why the reason
	// of having left without being asked. c.mu guards these, and Left.
	room.Place
	c       *conn
	channel string // the channel's id
	early   *early // what comes before the seat is live; guarded by c.mu
}

// early is what comes for a seat before the client knows that it has it.
type early struct{ list []*room.Publication }

// A bucket limits how often something may happen: a token bucket in eight
// bytes.
type bucket struct {
	used float32 // tokens taken and not yet back
	at   uint32  // ms since the gateway's start
}

// A limit is what a bucket holds against.
type limit struct {
	burst float32
	perMs float32
	debt  float32 // how far over the burst somebody may go before empty
}

// take takes a token, or says that there is none. What is refused counts too,
// up to the limit's debt.
func (b *bucket) take(l limit, since time.Duration) bool {
	now := uint32(since / time.Millisecond)
	// Little by little would be lost in the rounding of what was used.
	if back := float32(now-b.at) * l.perMs; back > 0.01 {
		b.used = max(0, b.used-back)
		b.at = now
	}
	if b.used+1 <= l.burst {
		b.used++
		return true
	}
	if b.used+1 <= l.burst+l.debt {
		b.used++
	}
	return false
}

// empty reports whether the debt is used up.
func (b *bucket) empty(l limit) bool { return b.used+1 > l.burst+l.debt }

// A pace is a bucket in half of the room, for what may be done once a second: the
// moment, in ms since the gateway's start, at which it is empty again.
type pace uint32

const paceStep = 1000 // ms

// take is as that of a bucket that holds burst.
func (p *pace) take(burst uint32, since time.Duration) bool {
	now := uint32(since / time.Millisecond)
	ahead := uint32(*p) - now
	if ahead > burst*paceStep {
		ahead = 0 // it is not ahead at all
	}
	if ahead+paceStep > burst*paceStep {
		return false
	}
	*p = pace(now + ahead + paceStep)
	return true
}

// commandRate is how many commands a connection may send: far more than any
// client needs, so that only floods meet it.
var commandRate = limit{burst: 200, perMs: 0.1, debt: 400}
