package gateway

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// A userKey names a user.
type userKey struct {
	app  chat.AppID
	user string
}

func (c *conn) key() userKey { return userKey{c.app, c.user} }

// A registry finds the sessions of a user. It is in shards because every
// message looks up every recipient.
type registry struct {
	now    func() time.Time
	turns  atomic.Uint64 // counts bars
	shards [registryShards]registryShard
}

const registryShards = 64

type registryShard struct {
	mu    sync.Mutex        // tier 1
	users map[userKey]*conn // the first of the user's sessions, linked by conn.nextOfUser
	// cutoffs are the newest voidings of tokens. A session whose token was
	// checked just before is not yet here when Expire looks for it; it finds
	// the cutoff when it comes.
	cutoffs map[userKey]cutoff
	// bars are the newest occasions on which users were shut out, for the same
	// reason.
	bars map[userKey]bar
}

// A bar keeps out who was let in before its turn and is not here yet.
type bar struct {
	turn uint64
	row  *DisconnectRow // what their connections are closed with
	at   time.Time
}

type cutoff struct {
	before int64 // Unix ms
	at     time.Time
}

// cutoffLife is far more than the time between the check of a token and the
// session's place in the registry.
const cutoffLife = 2 * callTimeout

var registrySeed = maphash.MakeSeed()

func newRegistry(now func() time.Time) *registry {
	r := &registry{now: now}
	for i := range r.shards {
		r.shards[i].users = map[userKey]*conn{}
		r.shards[i].cutoffs = map[userKey]cutoff{}
		r.shards[i].bars = map[userKey]bar{}
	}
	return r
}

func (r *registry) shard(k userKey) *registryShard {
	return &r.shards[maphash.Comparable(registrySeed, k)%registryShards]
}

// errVoided says that the token was voided since it was checked.
var errVoided = chat.Fail(chat.KindTokenExpired, "the token was voided")

// turn is to be noted before a token is checked, and given to add.
func (r *registry) turn() uint64 { return r.turns.Load() }

// add gives the session its place, or says why it may not have one: errVoided,
// or what the connection is to be closed with.
func (r *registry) add(c *conn, most int, turn uint64) error {
	k := c.key()
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.bars[k]; ok && turn < b.turn {
		return b.row
	}
	if cut, ok := s.cutoffs[k]; ok && c.issuedAt < cut.before {
		return errVoided
	}
	first := s.users[k]
	n := 0
	for o := first; o != nil; o = o.nextOfUser {
		n++
	}
	if n >= most {
		return closeConnLimit
	}
	c.nextOfUser = first
	s.users[k] = c
	return nil
}

// shut gives the user's sessions, and remembers that whoever was let in before
// now is not to become one.
func (r *registry) shut(k userKey, row *DisconnectRow) (out []*conn) {
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bars[k] = bar{r.turns.Add(1), row, r.now()}
	for c := s.users[k]; c != nil; c = c.nextOfUser {
		out = append(out, c)
	}
	return out
}

func (r *registry) remove(c *conn) {
	k := c.key()
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.users[k]
	if first == c {
		if c.nextOfUser == nil {
			delete(s.users, k)
		} else {
			s.users[k] = c.nextOfUser
		}
	}
	for o := first; o != nil; o = o.nextOfUser {
		if o.nextOfUser == c {
			o.nextOfUser = c.nextOfUser
			break
		}
	}
	c.nextOfUser = nil
}

// each calls do for the user's sessions. do runs under the shard's lock.
func (r *registry) each(k userKey, do func(*conn)) {
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.users[k]; c != nil; c = c.nextOfUser {
		do(c)
	}
}

func (r *registry) online(k userKey) bool {
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[k] != nil
}

// connected are the app's sessions of one shard, those of a user together.
func (r *registry) connected(app chat.AppID, shard int) (list []courier.Session) {
	s := &r.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, first := range s.users {
		if k.app != app {
			continue
		}
		for c := first; c != nil; c = c.nextOfUser {
			list = append(list, courier.Session{User: k.user, Client: c.trail.client.Value(), Background: c.inBackground()})
		}
	}
	return list
}

// void remembers that tokens issued before the given time are no good, and
// gives the sessions that are on such tokens.
func (r *registry) void(k userKey, before int64) []*conn {
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutoffs[k] = cutoff{max(before, s.cutoffs[k].before), r.now()}
	var out []*conn
	for c := s.users[k]; c != nil; c = c.nextOfUser {
		c.mu.Lock()
		if c.issuedAt < before {
			out = append(out, c)
		}
		c.mu.Unlock()
	}
	return out
}

// voided reports whether a token of this age was voided just now.
func (r *registry) voided(k userKey, issuedAt int64) bool {
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return issuedAt < s.cutoffs[k].before
}

// sweep forgets cutoffs and bars that everybody knows of by now.
func (r *registry) sweep() {
	old := r.now().Add(-cutoffLife)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for k, cut := range s.cutoffs {
			if cut.at.Before(old) {
				delete(s.cutoffs, k)
			}
		}
		for k, b := range s.bars {
			if b.at.Before(old) {
				delete(s.bars, k)
			}
		}
		s.mu.Unlock()
	}
}

// everyone is all connections, sessions or not.
type everyone struct {
	mu    sync.Mutex // tier 1
	first *conn
	count int
	shut  bool
	gone  chan struct{} // closed when the last one is gone after shut
}

// add reports whether the connection may live.
func (e *everyone) add(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return false
	}
	c.nextAll = e.first
	if e.first != nil {
		e.first.prevAll = c
	}
	e.first = c
	e.count++
	return true
}

func (e *everyone) remove(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.nextAll != nil {
		c.nextAll.prevAll = c.prevAll
	}
	if c.prevAll != nil {
		c.prevAll.nextAll = c.nextAll
	} else {
		e.first = c.nextAll
	}
	c.nextAll, c.prevAll = nil, nil
	if e.count--; e.count == 0 && e.shut {
		close(e.gone)
	}
}

// close lets nobody in any more and gives who is in. gone is closed when all
// have left.
func (e *everyone) close() (all []*conn, gone <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.shut {
		e.shut = true
		if e.count == 0 {
			close(e.gone)
		}
	}
	return e.listLocked(), e.gone
}

func (e *everyone) list() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listLocked()
}

func (e *everyone) listLocked() []*conn {
	all := make([]*conn, 0, e.count)
	for c := e.first; c != nil; c = c.nextAll {
		all = append(all, c)
	}
	return all
}

func (e *everyone) len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}
