// Package gateway is the clients' door: connections that speak the Centrifuge
// client protocol in JSON over WebSocket.
//
// What enters: upgraded connections, whose bytes are fed to a parser, whose
// messages are commands. What leaves: frames, joined and written by runners.
// In between is the session, a cursor over its user's timeline (see conn).
//
// docs/client-protocol.md is the protocol as client authors see it. References
// such as B4 are to the sections of the Centrifuge protocol that it follows.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/budget"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/websocket"
)

// Path is where clients connect.
const Path = "/connection/websocket"

// Store is what the gateway needs of a store.
type Store interface {
	store.Timelines
	store.Devices
	Message(ctx context.Context, ref chat.UID) (*chat.Message, error)
	Overlays(ctx context.Context, app chat.AppID, uids []chat.UID) ([]*chat.State, error)
	PutDeliveries(ctx context.Context, list []store.Delivery) error
	Epoch() string
}

// Directory says whom a token lets in.
type Directory interface {
	Verify(ctx context.Context, token string) (*directory.Grant, error)
	AppByID(chat.AppID) *chat.App
	Block(ctx context.Context, app *chat.App, user, field string, others []string) error
	Unblock(ctx context.Context, app *chat.App, user, field string, others []string) error
	Blocklist(ctx context.Context, app *chat.App, user string, p directory.BlocklistPage) (ids []string, next string, err error)
	RegisterPush(ctx context.Context, app *chat.App, user string, r *chat.PushRegistration) error
	UnregisterPush(ctx context.Context, app *chat.App, user, device string) error
}

// Courier sends what clients ask to be sent.
type Courier interface {
	Archive
	Channels
	Reading
	Listing
	Typing(ctx context.Context, app *chat.App, q *courier.Typing) error
	Pairs
	Begin(ctx context.Context, app *chat.App, scope, field, key string, body []byte) (*courier.Claim, error)
	Send(ctx context.Context, app *chat.App, s *courier.Send) (*courier.Sent, error)
	Enter(ctx context.Context, app *chat.App, q *courier.EnterRequest) (*courier.Entered, error)
	Leave(app chat.AppID, channel string, session room.Member, lost bool)
	Touch(ctx context.Context, app *chat.App, u *chat.User, client chat.Client) (given int, err error)
}

// Options are what a gateway works with.
type Options struct {
	Directory Directory
	Store     Store
	Rooms     *room.Rooms
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // nil for none
	Version   string                // told to clients; "parley" when empty

	NoTrails bool // keep nothing for the traces of messages

	PingInterval time.Duration // 25 s when zero
	PongTimeout  time.Duration // how long a pong may take; 10 s
	StaleAfter   time.Duration // how long the connect command may take; 15 s
	DrainTimeout time.Duration // how long a client may read nothing; 30 s
	commands     limit         // of each connection; commandRate unless a test says otherwise
	QueueBytes   int           // what may wait to be written to a connection, beside its timeline; 256 KiB
}

// A Gateway is all client connections of a node.
type Gateway struct {
	opts    Options
	courier Courier
	tracer  Tracer // nil: clients cannot trace
	metrics *metrics
	start   time.Time

	everyone everyone
	sessions *registry
	cursors  *cursors
	trails   *trails
	bodies   bodies

	// Questions who is in an open channel, in short and in all.
	asked, asks *budget.Book[askKey]

	whisper atomic.Pointer[whisper]

	wheel   *wheel
	runners []*runner
	nextRun atomic.Uint32
	writers sync.WaitGroup // goroutines that wait for a socket to take more

	life  context.Context // what commands and reads of the store live in
	endOf context.CancelFunc
}

// New makes a gateway. Attach must be called before the first connection, and
// Run must be running.
func New(o Options) *Gateway {
	setDefault(&o.PingInterval, 25*time.Second)
	setDefault(&o.PongTimeout, 10*time.Second)
	o.PongTimeout = min(o.PongTimeout, o.PingInterval*4/5) // B4: a pong belongs to one ping
	setDefault(&o.StaleAfter, 15*time.Second)
	setDefault(&o.DrainTimeout, 30*time.Second)
	setDefault(&o.QueueBytes, 256<<10)
	setDefault(&o.commands, commandRate)
	setDefault(&o.Version, "parley")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{opts: o, start: time.Now()}
	g.life, g.endOf = context.WithCancel(context.Background())
	g.everyone.gone = make(chan struct{})
	g.sessions = newRegistry(o.Now)
	g.cursors = newCursors(o.Store, o.Now)
	g.trails = newTrails(&o)
	g.asked, g.asks = budget.NewBook[askKey](o.Now), budget.NewBook[askKey](o.Now)
	// A quarter of a second is fine enough for the usual times; tests have
	// shorter ones.
	shortest := min(o.PingInterval, o.PongTimeout, o.StaleAfter, o.DrainTimeout)
	g.wheel = newWheel(min(max(shortest/20, time.Millisecond), 250*time.Millisecond))
	// Two for each processor: a turn may wait for the store's disk.
	for range 2 * runtime.GOMAXPROCS(0) {
		g.runners = append(g.runners, newRunner(g))
	}
	g.metrics = newMetrics(g, o.Metrics)
	return g
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Attach gives the gateway the courier, which is made after it.
func (g *Gateway) Attach(c Courier) { g.courier = c }

// ServeHTTP takes connections at Path.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.isShut() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	nc, leftover, err := websocket.Upgrade(w, r, websocket.UpgradeOptions{Subprotocols: []string{"centrifuge-json"}})
	if err != nil {
		g.opts.Logger.Debug("a WebSocket handshake failed", "remote", r.RemoteAddr, "error", err)
		return
	}
	c := &conn{g: g, wire: newWire(nc), parser: websocket.NewParser(websocket.Server, limitBefore)}
	c.runner = g.runners[int(g.nextRun.Add(1))%len(g.runners)]
	if !g.everyone.add(c) {
		nc.Close()
		return
	}
	c.mu.Lock()
	c.beatAt = g.wheel.after(g.opts.StaleAfter)
	c.armLocked()
	c.mu.Unlock()
	// This goroutine is net/http's, with its stack and buffers; it must end.
	go c.begin(leftover)
}

func (g *Gateway) isShut() bool {
	g.everyone.mu.Lock()
	defer g.everyone.mu.Unlock()
	return g.everyone.shut
}

// Wake tells the user's sessions that their timeline has grown.
func (g *Gateway) Wake(app chat.AppID, user string) {
	g.sessions.each(userKey{app, user}, func(c *conn) {
		c.behind.Store(true)
		c.schedule()
	})
}

// A whisper is the ephemeral message that was rendered last: it goes to all of
// its recipients one after the other.
type whisper struct {
	m *chat.Message
	b *body
}

// Whisper gives an ephemeral message to the user's sessions. For the sender's
// own copy peer names the recipient.
func (g *Gateway) Whisper(app chat.AppID, user string, m *chat.Message, uid chat.UID, peer string) {
	var push []byte
	g.sessions.each(userKey{app, user}, func(c *conn) {
		if push == nil {
			w := g.whisper.Load()
			if w == nil || w.m != m {
				w = &whisper{m, render(m, uid.Millis(), m.From)}
				g.whisper.Store(w)
			}
			push = make([]byte, 0, len(pushMe)+w.b.size(peer)+len(pushEnd))
			push = append(push, pushMe...)
			push = w.b.appendTo(push, uid, peer != "", peer, 0)
			push = append(push, pushEnd...)
		}
		c.mu.Lock()
		c.pushDroppableLocked(frame{push, frameEphemeral})
		c.mu.Unlock()
	})
}

// Online reports whether the user has a session here.
func (g *Gateway) Online(app chat.AppID, user string) bool {
	return g.sessions.online(userKey{app, user})
}

// Connected gives one part of the app's sessions, from 0 on, and how many parts
// there are.
func (g *Gateway) Connected(app chat.AppID, part int) (list []courier.Session, parts int) {
	return g.sessions.connected(app, part), registryShards
}

// Expire closes the users' sessions whose token was issued before the given
// time (Unix ms). It must be called after the directory knows of it.
func (g *Gateway) Expire(app chat.AppID, users []string, before int64) {
	for _, u := range users {
		for _, c := range g.sessions.void(userKey{app, u}, before) {
			c.disconnect(closeExpired)
		}
	}
}

// Shut closes all sessions of the users and says why: KindBanned or
// KindDeleted. It must be called after the directory knows of it, and keeps
// nobody out who comes later.
func (g *Gateway) Shut(app chat.AppID, users []string, why chat.Kind) {
	row := closesByKind[why]
	for _, u := range users {
		for _, c := range g.sessions.shut(userKey{app, u}, row) {
			c.disconnect(row)
		}
	}
}

const (
	cursorFlush = time.Second
	// lastFlush is what the last flush of cursors may take.
	lastFlush = 5 * time.Second
)

// Run does what has to be done besides, until ctx ends; then it closes what
// connections there still are and returns when nothing of them is left.
func (g *Gateway) Run(ctx context.Context) {
	stop := make(chan struct{})
	var wg, runners sync.WaitGroup
	wg.Go(func() { g.wheel.run(stop) })
	wg.Go(func() { g.housekeep(stop) })
	for _, r := range g.runners {
		runners.Go(r.run)
	}

	<-ctx.Done()
	all, gone := g.everyone.close()
	g.endOf()
	for _, c := range all {
		c.wire.abort()
	}
	<-gone
	for _, r := range g.runners {
		r.stop()
	}
	runners.Wait()
	g.writers.Wait() // runners start them
	close(stop)
	wg.Wait()
	g.flushCursors(lastFlush, true)
	g.flushTrails(lastFlush, true)
}

func (g *Gateway) housekeep(stop <-chan struct{}) {
	t := time.NewTicker(cursorFlush)
	defer t.Stop()
	var crowd crowd
	stored, trailed := true, true
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		stored = g.flushCursors(cursorFlush*5, stored)
		if n%int(trailFlush/cursorFlush) == 0 {
			trailed = g.flushTrails(trailFlush, trailed)
		}
		if crowd.settled(g.everyone.len()) {
			debug.FreeOSMemory()
		}
		if n%60 == 0 {
			g.sessions.sweep()
		}
	}
}

// A crowd watches how many connections there are, to tell when many have come
// or gone and it is quiet again. Then is the time to give memory back: opening
// a connection leaves five times as much garbage as the connection costs, and a
// heap that has been that large stays so. With 15,000 connections that is the
// difference between 6.2 and 4.7 KB of resident memory for each.
type crowd struct{ last, known int }

func (c *crowd) settled(now int) bool {
	moved := max(now-c.last, c.last-now)
	c.last = now
	changed := max(now-c.known, c.known-now)
	if changed < 1000 || changed < c.known/4 || moved > changed/50 {
		return false
	}
	c.known = now
	return true
}

// flushCursors stores the cursors and reports whether that went well. A store
// that refuses for long (a full disk) is worth one line in the log, not one a
// second.
func (g *Gateway) flushCursors(timeout time.Duration, wentWell bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := g.cursors.flush(ctx)
	switch {
	case err != nil && wentWell:
		g.opts.Logger.Error("storing device cursors fails; it is tried again every second", "error", err)
	case err == nil && !wentWell:
		g.opts.Logger.Info("device cursors are stored again")
	}
	return err == nil
}

var errHurried = errors.New("clients were cut off before they could be told")

// Shutdown lets nobody in any more and closes all clients with 3001, spread
// over the given time, so that they do not all come back elsewhere at once. It
// returns when they are gone, or when ctx ends; who is then left is cut off by
// the end of Run.
func (g *Gateway) Shutdown(ctx context.Context, spread time.Duration) error {
	all, gone := g.everyone.close()
	const step = 10 * time.Millisecond
	start := time.Now()
	t := time.NewTicker(step)
	defer t.Stop()
	for i := 0; i < len(all); {
		share := len(all)
		if spread > 0 {
			share = int(float64(len(all)) * float64(time.Since(start)+step) / float64(spread))
		}
		for ; i < min(share, len(all)); i++ {
			all[i].disconnect(closeShutdown)
		}
		if i == len(all) {
			break
		}
		select {
		case <-t.C:
		case <-gone:
			i = len(all)
		case <-ctx.Done():
			return errHurried
		}
	}
	select {
	case <-gone:
	case <-ctx.Done():
		return errHurried
	}
	g.flushCursors(lastFlush, true)
	g.flushTrails(lastFlush, true)
	return nil
}
