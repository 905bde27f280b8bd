package room

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const (
	// Whoever lost their connection is in the room until the 31st message after,
	// or the first one after 30 seconds (open-channel/overview).
	awayMessages = 30
	awayFor      = 30 * time.Second
)

// A Watcher is told of what happens in rooms without anybody asking for it. It
// must not block, and must not call back.
type Watcher interface {
	// Gone says that users are in the room no more, for whatever reason.
	Gone(key Key, users []string)
	// Stays reports whether a user who lost their connection stays all the same.
	Stays(key Key, user string) bool
}

// Watch says who is told. It must be called before anybody enters.
func (r *Rooms) Watch(w Watcher) { r.watch = w }

type nobody struct{}

func (nobody) Gone(Key, []string)     {}
func (nobody) Stays(Key, string) bool { return false }

// A participant is a user in a room, with one session, several, or for a short
// time none. All but next belongs to the room, under its lock.
type participant struct {
	room     *room
	next     *participant // the same user in another room, or another user of the same hash; under the crowd's lock
	user     string
	at       int64 // Unix ms: since when
	lostAt   int64 // Unix ms: when the last session was lost
	place    int32 // in the room's present
	sessions int32
	missed   int32 // messages since lostAt
}

// A crowd says where users are: the rooms of each are a list.
//
// They are found by a hash of who they are: the participants say whose they are
// themselves, and a map of names would be as large as they.
type crowd struct {
	mu    sync.Mutex // tier 3: nothing is taken inside
	users map[uint64]*participant
}

type userKey struct {
	app  chat.AppID
	user string
}

func (r *Rooms) crowd(u userKey) (c *crowd, hash uint64) {
	hash = maphash.Comparable(seed, u)
	return &r.crowds[hash%shards], hash
}

// find is the user's part in the room, nil when they are not in it. The caller
// has the room's lock.
func (r *Rooms) find(rm *room, user string) *participant {
	u := userKey{rm.key.App, user}
	c, hash := r.crowd(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.users[hash]; p != nil; p = p.next {
		if p.room == rm && p.user == user {
			return p
		}
	}
	return nil
}

// arrive adds a session to the user's, who comes if they were not here.
func (r *Rooms) arrive(rm *room, user, extra string) *participant {
	u := userKey{rm.key.App, user}
	c, hash := r.crowd(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.users[hash]; p != nil; p = p.next {
		if p.room == rm && p.user == user {
			if p.sessions == 0 {
				rm.away--
			}
			p.sessions++
			return p
		}
	}
	p := &participant{room: rm, user: user, at: r.now().UnixMilli(), sessions: 1, place: int32(len(rm.present)), next: c.users[hash]}
	c.users[hash] = p
	rm.present = append(rm.present, p)
	rm.news.came(user, extra)
	return p
}

// depart takes the user out of the room. Their sessions are gone already.
func (r *Rooms) depart(rm *room, p *participant) {
	if p.sessions == 0 {
		rm.away--
	}
	last := len(rm.present) - 1
	rm.present[p.place] = rm.present[last]
	rm.present[p.place].place = p.place
	rm.present[last] = nil
	rm.present = rm.present[:last]
	if last == 0 {
		rm.emptyAt = r.now()
	}
	rm.news.went(p.user)

	u := userKey{rm.key.App, p.user}
	c, hash := r.crowd(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.users[hash]
	if at == p {
		if p.next == nil {
			delete(c.users, hash)
		} else {
			c.users[hash] = p.next
		}
		return
	}
	for at.next != p {
		at = at.next
	}
	at.next = p.next
}

func (r *Rooms) tellGone(key Key, users []string) {
	if len(users) > 0 {
		r.watch.Gone(key, users)
	}
}

// countMissed counts a message that those without a session miss, and takes out
// who has missed too many. A room in which nobody is away does nothing.
func (r *Rooms) countMissed(rm *room) (gone []string) {
	if rm.away == 0 {
		return nil
	}
	late := r.now().Add(-awayFor).UnixMilli()
	for i := 0; i < len(rm.present); {
		p := rm.present[i]
		if p.sessions == 0 {
			p.missed++
			if (p.lostAt <= late || p.missed > awayMessages) && !r.watch.Stays(rm.key, p.user) {
				gone = append(gone, p.user)
				r.depart(rm, p) // another one takes its place
				continue
			}
		}
		i++
	}
	return gone
}

// DropAway takes those out of all rooms who have been without a session for as
// long as longest says of their app; 0 is for ever.
func (r *Rooms) DropAway(longest func(chat.AppID) time.Duration) {
	now := r.now()
	r.eachRoom(func(rm *room) (gone []string) {
		after := longest(rm.key.App)
		if rm.away == 0 || after == 0 {
			return nil
		}
		late := now.Add(-after).UnixMilli()
		for i := 0; i < len(rm.present); {
			if p := rm.present[i]; p.sessions == 0 && p.lostAt <= late && !r.watch.Stays(rm.key, p.user) {
				gone = append(gone, p.user)
				r.depart(rm, p)
				continue
			}
			i++
		}
		return gone
	})
}

// eachRoom calls f with every room, locked, and tells of those it took out.
func (r *Rooms) eachRoom(f func(*room) (gone []string)) {
	var rooms []*room
	for i := range r.shards {
		s := &r.shards[i]
		rooms = rooms[:0]
		s.mu.Lock()
		for _, rm := range s.rooms {
			rooms = append(rooms, rm)
		}
		s.mu.Unlock()
		for _, rm := range rooms {
			rm.mu.Lock()
			var gone []string
			if !rm.dropped {
				gone = f(rm)
			}
			rm.mu.Unlock()
			r.tellGone(rm.key, gone)
		}
	}
}

// Evict takes the users out of the room, all of their sessions, and gives those
// who were in it.
func (r *Rooms) Evict(key Key, why Reason, users ...string) (gone []string) {
	rm := r.lock(key, false)
	if rm == nil {
		return nil
	}
	var outs []evicted
	for _, user := range users {
		p := r.find(rm, user)
		if p == nil {
			continue
		}
		for i := 0; i < len(rm.list) && p.sessions > 0; {
			m := rm.list[i]
			if m == nil || m.User() != user {
				i++
				continue
			}
			outs = append(outs, rm.evict(m))
			if p.sessions--; p.sessions == 0 {
				rm.away++ // for the moment until depart
			}
		}
		r.depart(rm, p)
		gone = append(gone, user)
	}
	rm.mu.Unlock()
	for i := range outs {
		outs[i].tell(why)
	}
	r.tellGone(key, gone)
	return gone
}

// End takes everybody out of the room, which is no more: whoever enters next is
// in a new one.
func (r *Rooms) End(key Key) {
	s := &r.shards[maphash.Comparable(seed, key)%shards]
	rm := r.lock(key, false)
	if rm == nil {
		return
	}
	rm.dropped = true
	r.pumps.end(rm)
	var gone []string
	for len(rm.present) > 0 {
		p := rm.present[len(rm.present)-1]
		if p.sessions > 0 {
			p.sessions = 0
			rm.away++
		}
		gone = append(gone, p.user)
		r.depart(rm, p)
	}
	rm.mu.Unlock()
	s.mu.Lock()
	if s.rooms[key] == rm {
		delete(s.rooms, key)
	}
	s.mu.Unlock()
	r.tellGone(key, gone)
}

// Elsewhere is which other rooms the user is in.
func (r *Rooms) Elsewhere(key Key, user string) (others []Key) {
	u := userKey{key.App, user}
	c, hash := r.crowd(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.users[hash]; p != nil; p = p.next {
		if p.room.key != key && p.user == user && p.room.key.App == key.App {
			others = append(others, p.room.key)
		}
	}
	return others
}

// A Participant is a user in a room.
type Participant struct {
	User string
	At   int64 // Unix ms: since when
}

// Participants are the users in the room, up to limit of them, the first to come
// first or last, and how many there are in all.
func (r *Rooms) Participants(key Key, limit int, newestFirst bool) (list []Participant, total int) {
	rm := r.lock(key, false)
	if rm == nil {
		return nil, 0
	}
	list = make([]Participant, len(rm.present))
	for i, p := range rm.present {
		list[i] = Participant{p.user, p.at}
	}
	rm.mu.Unlock()
	slices.SortFunc(list, func(a, b Participant) int {
		if newestFirst {
			a, b = b, a
		}
		return byArrival(a, b)
	})
	return list[:min(limit, len(list))], len(list)
}

// A Size is how much there is of everything that is live.
type Size struct {
	Rooms        int
	Participants int // users in rooms, each as often as they are in one
	Parts        int // the same, found by user
}

// Size counts what there is. It is not for every call: it looks at everybody.
func (r *Rooms) Size() (n Size) {
	r.eachRoom(func(rm *room) []string {
		n.Rooms++
		n.Participants += len(rm.present)
		return nil
	})
	for i := range r.crowds {
		c := &r.crowds[i]
		c.mu.Lock()
		for _, p := range c.users {
			for ; p != nil; p = p.next {
				n.Parts++
			}
		}
		c.mu.Unlock()
	}
	return n
}

// Count is how many users are in the room.
func (r *Rooms) Count(key Key) int {
	rm := r.lock(key, false)
	if rm == nil {
		return 0
	}
	defer rm.mu.Unlock()
	return len(rm.present)
}

// Here says of each of the users whether they are in the room.
func (r *Rooms) Here(key Key, users []string) []bool {
	here := make([]bool, len(users))
	rm := r.lock(key, false)
	if rm == nil {
		return here
	}
	defer rm.mu.Unlock()
	for i, user := range users {
		here[i] = r.find(rm, user) != nil
	}
	return here
}

// Since is since when (Unix ms) the user is in the room, 0 when they are not.
func (r *Rooms) Since(key Key, user string) int64 {
	rm := r.lock(key, false)
	if rm == nil {
		return 0
	}
	defer rm.mu.Unlock()
	if p := r.find(rm, user); p != nil {
		return p.at
	}
	return 0
}

// Some are up to limit of the users in the room, the first to come first, and how
// many there are in all. Which ones is left open, so that looking costs the same
// however large the room is.
func (r *Rooms) Some(key Key, limit int) (list []Participant, total int) {
	rm := r.lock(key, false)
	if rm == nil {
		return nil, 0
	}
	total = len(rm.present)
	list = make([]Participant, min(limit, total))
	for i := range list {
		list[i] = Participant{rm.present[i].user, rm.present[i].at}
	}
	rm.mu.Unlock()
	slices.SortFunc(list, byArrival)
	return list, total
}

func byArrival(a, b Participant) int {
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.User, b.User))
}

// Keys are the rooms of an app in which somebody is.
func (r *Rooms) Keys(app chat.AppID) (keys []Key) {
	r.eachRoom(func(rm *room) []string {
		if rm.key.App == app && len(rm.present) > 0 {
			keys = append(keys, rm.key)
		}
		return nil
	})
	return keys
}
