// Package room holds the live side of open channels: who is here now, and
// giving them what is said.
//
// A room exists while somebody is in it and for a short time after. What it
// holds is of this process only: durable facts about an open channel (its
// history) are the store's.
package room

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A Key names a room.
type Key struct {
	App     chat.AppID
	Channel string
}

// A Member is one session in a room. One user may be in a room with several.
type Member interface {
	// User is who the session belongs to.
	User() string
	// Deliver gives the member a publication. Publications come in order of
	// their offsets, none twice. It must not block, and must not call back into
	// the room.
	Deliver(*Publication)
}

// A Publication is one message in a room. It is shared by all members.
type Publication struct {
	Offset  uint64
	UID     chat.UID
	Message *chat.Message
	Channel string

	forms [Forms]form
}

// Forms is how many wire forms a publication can be kept encoded in.
const Forms = 4

type form struct {
	once  sync.Once
	bytes []byte
}

// Form gives the publication in the i-th wire form, made once for all members.
func (p *Publication) Form(i int, encode func(*Publication) []byte) []byte {
	f := &p.forms[i]
	f.once.Do(func() { f.bytes = encode(p) })
	return f.bytes
}

// For reports whether the publication is meant for sessions of the user: a
// sender's own sessions get a message only when it asks for an echo.
func (p *Publication) For(user string) bool {
	return p.Message.Echo || p.Message.From != user
}

const (
	// ringSize is how many publications a session that was cut off for a
	// moment can catch up on.
	ringSize = 128
	// linger is how long an empty room is kept for those who come back.
	linger = time.Minute
	shards = 64
)

// Rooms are all rooms of a node.
type Rooms struct {
	now    func() time.Time
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex // tier 1: a room's is only tried inside
	rooms map[Key]*room
}

type room struct {
	mu      sync.Mutex // tier 2: members' own locks may be taken inside
	epoch   string
	members map[Member]int
	list    []Member       // the same, to walk over
	users   map[string]int // sessions per user
	offset  uint64
	ring    []*Publication // the newest, oldest first, at most ringSize
	emptyAt time.Time
	dropped bool // whoever still found it must look again
}

// New makes an empty set of rooms.
func New(now func() time.Time) *Rooms {
	r := &Rooms{now: now}
	for i := range r.shards {
		r.shards[i].rooms = map[Key]*room{}
	}
	return r
}

// A Position is where a session stands in a room.
type Position struct {
	Epoch  string
	Offset uint64
}

// Entered is what a session learns on entering.
type Entered struct {
	Position                    // of the room as the session entered
	Missed       []*Publication // what it missed since the position it asked to recover from
	Recovered    bool           // whether Missed is all it missed
	Participants int            // users in the room, this one among them
}

// Enter puts m into the room. With a position to recover from it also gives
// what was published since, if the room still has all of it. Every publication
// after Entered.Offset is delivered to m, also before Enter has returned.
func (r *Rooms) Enter(key Key, m Member, from *Position) Entered {
	rm := r.lock(key, true)
	defer rm.mu.Unlock()
	if _, in := rm.members[m]; !in {
		rm.members[m] = len(rm.list)
		rm.list = append(rm.list, m)
		rm.users[m.User()]++
	}
	e := Entered{Position: Position{rm.epoch, rm.offset}, Participants: len(rm.users)}
	if from != nil && from.Epoch == rm.epoch && from.Offset <= rm.offset {
		missed := rm.offset - from.Offset
		if e.Recovered = missed <= uint64(len(rm.ring)); e.Recovered {
			e.Missed = append(e.Missed, rm.ring[uint64(len(rm.ring))-missed:]...)
		}
	}
	return e
}

// Leave takes m out of the room. It may still be given a publication that was
// on its way.
func (r *Rooms) Leave(key Key, m Member) {
	rm := r.lock(key, false)
	if rm == nil {
		return
	}
	defer rm.mu.Unlock()
	i, in := rm.members[m]
	if !in {
		return
	}
	delete(rm.members, m)
	last := len(rm.list) - 1
	if i != last {
		rm.list[i] = rm.list[last]
		rm.members[rm.list[i]] = i
	}
	rm.list[last] = nil
	rm.list = rm.list[:last]
	if u := m.User(); rm.users[u] == 1 {
		delete(rm.users, u)
	} else {
		rm.users[u]--
	}
	if len(rm.list) == 0 {
		rm.emptyAt = r.now()
	}
}

// Publish gives a message to everybody in the room. Calls for one room must be
// made one after the other, in the order in which messages were accepted.
func (r *Rooms) Publish(key Key, uid chat.UID, m *chat.Message) (members int) {
	// A room nobody is in, and nobody has just left, has nobody to tell.
	rm := r.lock(key, false)
	if rm == nil {
		return 0
	}
	defer rm.mu.Unlock()
	rm.offset++
	p := &Publication{Offset: rm.offset, UID: uid, Message: m, Channel: key.Channel}
	if len(rm.ring) == ringSize {
		copy(rm.ring, rm.ring[1:])
		rm.ring[ringSize-1] = p
	} else {
		rm.ring = append(rm.ring, p)
	}
	// The lock is held while all are given it, so that somebody who enters
	// meanwhile starts right after it. Delivering only queues: ten thousand
	// members keep the lock for about a millisecond.
	for _, m := range rm.list {
		m.Deliver(p)
	}
	return len(rm.list)
}

// Participants is how many users are in the room.
func (r *Rooms) Participants(key Key) int {
	rm := r.lock(key, false)
	if rm == nil {
		return 0
	}
	defer rm.mu.Unlock()
	return len(rm.users)
}

// lock finds the room, made when missing if create, and locks it. The shard is
// let go first: a room that is busy publishing holds up nobody else's.
func (r *Rooms) lock(key Key, create bool) *room {
	s := &r.shards[maphash.Comparable(seed, key)%shards]
	for {
		s.mu.Lock()
		rm := s.rooms[key]
		if rm == nil && create {
			// The epoch is new with every room: offsets outlive neither the
			// process nor a room that was dropped.
			rm = &room{epoch: rand.Text()[:8], members: map[Member]int{}, users: map[string]int{}, emptyAt: r.now()}
			s.rooms[key] = rm
		}
		s.mu.Unlock()
		if rm == nil {
			return nil
		}
		rm.mu.Lock()
		if !rm.dropped {
			return rm
		}
		rm.mu.Unlock()
	}
}

var seed = maphash.MakeSeed()

// Run drops rooms that have been empty for a while, until ctx ends.
func (r *Rooms) Run(ctx context.Context) {
	t := time.NewTicker(linger / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.sweep()
		}
	}
}

func (r *Rooms) sweep() {
	before := r.now().Add(-linger)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for key, rm := range s.rooms {
			if !rm.mu.TryLock() {
				continue // in use, so not one to drop
			}
			if len(rm.list) == 0 && rm.emptyAt.Before(before) {
				rm.dropped = true
				delete(s.rooms, key)
			}
			rm.mu.Unlock()
		}
		s.mu.Unlock()
	}
}
