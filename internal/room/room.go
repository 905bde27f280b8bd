// Package room holds the live side of open channels: who is here now, and
// giving them what is said.
//
// A room exists while somebody is in it and for a short time after. What it
// holds is of this process only: durable facts about an open channel (its
// history) are the store's.
//
// Entering, leaving and publishing take a room's lock for moments. What is
// published waits in the room's window; pumps close it and hand what was in it
// to the members as one batch, slice by slice, with no lock held (see pumps).
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

// A Member is one session in a room. One user may be in a room with several. It
// has a Place, and is in one room once in its life: who comes back does so as
// another member.
type Member interface {
	// User is who the session belongs to.
	User() string
	// Deliver gives the member what of a batch is after the number. Batches come
	// in order, none twice. It must not block. It reports whether the member is
	// behind: still busy with what it was given before.
	Deliver(b *Batch, after uint64) (behind bool)
	// Evict tells the member that it is in the room no more, and why. It must not
	// block, and must not call back into the room.
	Evict(Reason)

	place() *Place
}

// A Place is what a room keeps in each of its members: to find a member by a map
// would cost several times as much.
type Place struct {
	after uint64 // the number of what was published last when the member entered
	index int32  // in the room's list, from 1; 0 when in none

	// What the member itself notes, under a lock of its own. They are here because
	// there is room for them, and there are many members.
	Live, Left bool
	Why        Reason
}

func (p *Place) place() *Place { return p }

// A Reason is why somebody who did not leave is in a room no more.
type Reason uint8

// The reasons.
const (
	Elsewhere Reason = iota // they entered another room, and may be in one
	Barred                  // they are kept out of this one
	Ended                   // the room's channel is no more
)

// A Publication is one message in a room. It is shared by all members.
type Publication struct {
	Seq     uint64 // counts what is handed out in the room, news among it
	Offset  uint64 // counts what can be recovered; 0 for news
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
	watch  Watcher
	pumps  pumps
	shards [shards]shard
	crowds [shards]crowd
}

type shard struct {
	mu    sync.Mutex // tier 1: a room's is only tried inside
	rooms map[Key]*room
}

type room struct {
	mu      sync.Mutex // tier 2: a member's own lock and the pumps' may be taken inside
	epoch   string
	key     Key
	list    []Member       // in no order; nil where one left while a batch was handed out
	seated  int            // members in list
	present []*participant // in no order; each knows its place
	away    int            // how many of them have no session now
	news    news
	offset  uint64
	ring    []*Publication // the newest, oldest first, at most ringSize
	emptyAt time.Time
	dropped bool // whoever still found it must look again

	fanOut
}

// New makes an empty set of rooms.
func New(now func() time.Time) *Rooms {
	r := &Rooms{now: now, watch: nobody{}, pumps: newPumps()}
	r.pumps.wake.L = &r.pumps.mu
	for i := range r.shards {
		r.shards[i].rooms = map[Key]*room{}
		r.crowds[i].users = map[uint64]*participant{}
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
	At           int64          // Unix ms: since when the user is here
}

// Enter puts m into the room. With a position to recover from it also gives
// what was published since, if the room still has all of it. Every publication
// after Entered.Offset is delivered to m, also before Enter has returned. extra
// goes with the news that the user came.
func (r *Rooms) Enter(key Key, m Member, from *Position, extra string) Entered {
	rm := r.lock(key, true)
	defer rm.mu.Unlock()
	var p *participant
	if !rm.has(m) {
		rm.list = append(rm.list, m)
		rm.seated++
		// What waits in the window is in the ring already, so to this member it is
		// the past.
		place := m.place()
		place.after, place.index = rm.seq, int32(len(rm.list))
		p = r.arrive(rm, m.User(), extra)
	} else {
		p = r.find(rm, m.User())
	}
	e := Entered{Position: Position{rm.epoch, rm.offset}, Participants: len(rm.present), At: p.at}
	if from != nil && from.Epoch == rm.epoch && from.Offset <= rm.offset {
		missed := rm.offset - from.Offset
		if e.Recovered = missed <= uint64(len(rm.ring)); e.Recovered {
			e.Missed = append(e.Missed, rm.ring[uint64(len(rm.ring))-missed:]...)
		}
	}
	return e
}

// Leave takes m out of the room. It may still be given a batch that was on its
// way. With lost, the connection is gone and not by the user's will: who
// comes back in time has never left.
func (r *Rooms) Leave(key Key, m Member, lost bool) {
	rm := r.lock(key, false)
	if rm == nil {
		return
	}
	left := rm.remove(m)
	var gone []string
	if left {
		if p := r.find(rm, m.User()); p.sessions > 1 {
			p.sessions--
		} else if lost {
			p.sessions, p.lostAt, p.missed = 0, r.now().UnixMilli(), 0
			rm.away++
		} else {
			gone = append(gone, p.user)
			r.depart(rm, p)
		}
	}
	rm.mu.Unlock()
	r.tellGone(key, gone)
}

func (rm *room) has(m Member) bool {
	i := int(m.place().index) - 1
	return i >= 0 && i < len(rm.list) && rm.list[i] == m
}

// remove takes a session out, and reports whether it was in.
func (rm *room) remove(m Member) bool {
	if !rm.has(m) {
		return false
	}
	p := m.place()
	rm.vacate(int(p.index) - 1)
	p.index = 0
	rm.seated--
	return true
}

// Publish gives a message to everybody in the room, soon: it waits for others of
// its window, and for nobody. Calls for one room must be made one after the
// other, in the order in which messages were accepted.
func (r *Rooms) Publish(key Key, uid chat.UID, m *chat.Message) (members int) {
	// A room nobody is in, and nobody has just left, has nobody to tell.
	rm := r.lock(key, false)
	if rm == nil {
		return 0
	}
	var gone []string
	defer func() { r.tellGone(key, gone) }()
	defer rm.mu.Unlock()
	if m.Event == nil {
		gone = r.countMissed(rm)
	}
	rm.offset++
	p := &Publication{Offset: rm.offset, UID: uid, Message: m, Channel: key.Channel}
	if len(rm.ring) == ringSize {
		copy(rm.ring, rm.ring[1:])
		rm.ring[ringSize-1] = p
	} else {
		rm.ring = append(rm.ring, p)
	}
	r.pumps.add(rm, p)
	return rm.seated
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
			rm = &room{key: key, epoch: rand.Text()[:8], emptyAt: r.now()}
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

// Run hands out what is published, drops rooms that have been empty for a while,
// and tells the others who came and went, until ctx ends. What was published
// before is handed out still.
func (r *Rooms) Run(ctx context.Context) {
	var pumps sync.WaitGroup
	pumps.Go(func() { r.pumps.run(ctx) })
	defer pumps.Wait()
	t := time.NewTicker(newsEvery)
	defer t.Stop()
	swept := r.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.tellNews()
		if now := r.now(); now.Sub(swept) >= linger/2 {
			swept = now
			r.sweep()
		}
	}
}

func (r *Rooms) sweep() {
	now := r.now()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for key, rm := range s.rooms {
			if !rm.mu.TryLock() {
				continue // in use, so not one to drop
			}
			if len(rm.present) == 0 && rm.phase == resting && rm.emptyAt.Before(now.Add(-linger)) {
				rm.dropped = true
				delete(s.rooms, key)
			}
			rm.mu.Unlock()
		}
		s.mu.Unlock()
	}
}
