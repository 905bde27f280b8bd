package pebble

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// tailLen is how many of a user's newest entries a head keeps in memory until
// it is checkpointed. It covers sessions that follow live; who is further behind
// reads rows.
const tailLen = 16

const headShards = 64

// A head is the newest end of one user's timeline. It is in memory while an
// append is under way for the user (pinned) and until its row is written
// (dirty); after that it may be dropped and is read again from its row.
type head struct {
	app  chat.AppID
	user string

	pins atomic.Int32 // raised from 0 under its shard's lock only
	used atomic.Bool  // since the shard's last sweep

	// next is the offset the writer gave last. Only the writer touches it, once
	// the head is loaded.
	next uint64

	mu     sync.Mutex // tier 3: nothing is locked under it
	loaded bool
	dirty  bool      // on the dirty list, to be checkpointed
	state  headState // durable
	tail   []tailEntry
}

// A tailEntry is an entry in memory; its offset follows from its place.
type tailEntry struct {
	ref   chat.UID
	index uint16
	kind  store.EntryKind
	peer  string
}

type headID struct {
	app  chat.AppID
	user string
}

// hash spreads ids. maphash.Comparable would allocate.
func (id headID) hash(seed maphash.Seed) uint64 {
	return maphash.String(seed, id.user) + uint64(id.app)
}

// heads is the table of heads in memory.
type heads struct {
	db     *pdb.DB
	seed   maphash.Seed
	limit  int // heads per shard before clean ones are dropped
	count  atomic.Int64
	shards [headShards]headShard
}

type headShard struct {
	mu sync.Mutex // tier 2: a head's mu may be locked under it
	m  map[headID]*head
}

func newHeads(db *pdb.DB, limit int) *heads {
	h := &heads{db: db, seed: maphash.MakeSeed(), limit: max(limit/headShards, 16)}
	for i := range h.shards {
		h.shards[i].m = map[headID]*head{}
	}
	return h
}

// pin gives the user's head, loaded and safe from being dropped until unpin.
func (t *heads) pin(app chat.AppID, user string) (*head, error) {
	id := headID{app, user}
	s := &t.shards[id.hash(t.seed)%headShards]
	s.mu.Lock()
	h := s.m[id]
	if h == nil {
		if len(s.m) >= t.limit {
			t.sweep(s, 64)
		}
		h = &head{app: app, user: user}
		s.m[id] = h
		t.count.Add(1)
	}
	h.pins.Add(1)
	s.mu.Unlock()
	if !h.used.Load() {
		h.used.Store(true)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded {
		return h, nil
	}
	state, err := readHead(t.db, app, user)
	if err != nil {
		h.unpin()
		return nil, err
	}
	h.state, h.next, h.loaded = state, state.offset, true
	return h, nil
}

func (h *head) unpin() { h.pins.Add(-1) }

// sweep drops clean heads of s that were not used since it last saw them. It looks
// at some only: map order is random, so in time it comes by all of them.
func (t *heads) sweep(s *headShard, some int) {
	for id, h := range s.m {
		if some--; some < 0 || len(s.m) < t.limit {
			return
		}
		if h.pins.Load() == 0 && !h.used.Swap(false) {
			delete(s.m, id)
			t.count.Add(-1)
		}
	}
}

// trim brings the table back to its limit after many heads became clean at once.
func (t *heads) trim() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		// The second time round nothing counts as used.
		for range 2 {
			if len(s.m) > t.limit {
				t.sweep(s, len(s.m))
			}
		}
		s.mu.Unlock()
	}
}

func readHead(db *pdb.DB, app chat.AppID, user string) (headState, error) {
	var buf [96]byte
	row, closer, err := db.Get(appendUserKey(buf[:0], spaceHead, app, user))
	if errors.Is(err, pdb.ErrNotFound) {
		return headState{}, nil
	}
	if err != nil {
		return headState{}, fmt.Errorf("read head: %w", err)
	}
	defer closer.Close()
	return decodeHead(row)
}

// durable is what readers may see.
func (h *head) durable() headState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// commit makes the user's next entry visible, and reports whether the head was
// clean before.
func (h *head) commit(e *store.Entry, index int, day uint16) (wasClean bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state.advance(e.Offset, day)
	if len(h.tail) == tailLen {
		// A slice of twice the length would hold strings alive; moving sixteen
		// small entries is cheaper than it looks beside the rows just written.
		copy(h.tail, h.tail[1:])
		h.tail = h.tail[:tailLen-1]
	}
	h.tail = append(h.tail, tailEntry{ref: e.Ref, index: uint16(index), kind: e.Kind, peer: e.Peer})
	wasClean = !h.dirty
	h.dirty = true
	return wasClean
}

// readTail appends the entries of offsets lo to hi from memory, or reports that
// they are not all there.
func (h *head) readTail(lo, hi uint64, reverse bool, dst []store.Entry) ([]store.Entry, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tail) == 0 || hi > h.state.offset {
		return dst, false
	}
	base := h.state.offset - uint64(len(h.tail)) + 1 // offset of tail[0]
	if lo < base {
		return dst, false
	}
	for n := lo; n <= hi; n++ {
		offset := n
		if reverse {
			offset = hi - (n - lo)
		}
		e := &h.tail[offset-base]
		dst = append(dst, store.Entry{
			User: h.user, Offset: offset, Ref: e.ref, UID: e.ref.Plus(int(e.index)),
			Peer: e.peer, Kind: e.kind,
		})
	}
	return dst, true
}
