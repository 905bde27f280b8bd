package serverapi

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
)

const (
	// defaultReplayCapacity is how many calls of one app the replay guard
	// remembers: 3,500 calls a second over 5 minutes. The default rate limits
	// allow a tenth of that.
	defaultReplayCapacity = 1 << 20

	// replaySlot is the span of timestamps that are forgotten together. It does
	// not depend on the app's window, so the window can change at any time.
	replaySlot = 15_000 // ms
)

// A replayGuard remembers the signatures of accepted calls for as long as their
// timestamps are good, so that each is good once.
//
// A remembered call is 8 bytes of a keyed hash, measured at 26 with the table
// around it, in the slot of its timestamp.
// With a million remembered, one call in 2^44 is taken for another. A slot is
// dropped whole: once the window has passed it, or, oldest first, when the app
// has more calls than fit; until the window has passed those, they could be
// repeated.
type replayGuard struct {
	capacity int
	evicted  prometheus.Counter
	seed     maphash.Seed

	mu   sync.Mutex
	apps map[chat.AppID]*replaySlots
}

type replaySlots struct {
	slots map[int64]map[uint64]struct{} // by timestamp / replaySlot
	low   int64                         // slots below were dropped
	size  int
}

func newReplayGuard(capacity int, evicted prometheus.Counter) *replayGuard {
	return &replayGuard{
		capacity: capacity, evicted: evicted, seed: maphash.MakeSeed(),
		apps: map[chat.AppID]*replaySlots{},
	}
}

// first remembers the call and reports whether it was not remembered before.
func (g *replayGuard) first(app *chat.App, cr *credentials, now time.Time) bool {
	sum, key := g.sum(cr), cr.at/replaySlot
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.apps[app.ID]
	if a == nil {
		a = &replaySlots{slots: map[int64]map[uint64]struct{}{}}
		g.apps[app.ID] = a
	}
	if low := (now.UnixMilli() - app.Settings.AuthWindow.Milliseconds()) / replaySlot; low != a.low {
		a.drop(low)
	}
	slot := a.slots[key]
	if _, seen := slot[sum]; seen {
		return false
	}
	if a.size >= g.capacity {
		g.evicted.Add(float64(a.dropOldest()))
		slot = a.slots[key]
	}
	if slot == nil {
		slot = map[uint64]struct{}{}
		a.slots[key] = slot
	}
	slot[sum] = struct{}{}
	a.size++
	return true
}

// forget makes a remembered call good again: it had no effect.
func (g *replayGuard) forget(app *chat.App, cr *credentials) {
	sum := g.sum(cr)
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.apps[app.ID]
	if a == nil {
		return
	}
	slot := a.slots[cr.at/replaySlot]
	if _, seen := slot[sum]; seen {
		delete(slot, sum)
		a.size--
	}
}

func (g *replayGuard) sum(cr *credentials) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
	h.WriteString(cr.nonce)
	h.WriteByte(0)
	h.WriteString(cr.timestamp)
	h.WriteByte(0)
	h.WriteString(cr.signature)
	return h.Sum64()
}

func (a *replaySlots) drop(low int64) {
	a.low = low
	for key, slot := range a.slots {
		if key < low {
			a.size -= len(slot)
			delete(a.slots, key)
		}
	}
}

// dropOldest says how many calls it forgot.
func (a *replaySlots) dropOldest() int {
	oldest, found := int64(0), false
	for key := range a.slots {
		if !found || key < oldest {
			oldest, found = key, true
		}
	}
	n := len(a.slots[oldest])
	a.size -= n
	delete(a.slots, oldest)
	return n
}
