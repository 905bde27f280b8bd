package node

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectTick is how often the collector is told anew.
	collectTick = time.Second
	// collectRoom is how much the heap may grow in any case until it is collected, so
	// that a small one is not collected all the time.
	collectRoom = 16 << 20
	// collectEarly is by how much a heap is collected earlier than usual, at most, and
	// never by more than half: there is little to mark in a small one.
	collectEarly = 32 << 20
	// collectSmall is up to which size a heap is left to grow as usual: whoever sends
	// notifications as fast as can be fills a few megabytes many times a second.
	collectSmall = 128 << 20
	// leastPercent bounds how often a large heap is collected.
	leastPercent = 10

	// restTicks is for how long little must have been allocated, and restBytes how
	// little, until memory is given back.
	restTicks = 5
	restBytes = 4 << 20
)

// A heapView is what the runtime says of the heap, in bytes.
type heapView struct {
	allocated uint64 // ever
	live      uint64 // after the last collection
	objects   uint64 // live or not
	free      uint64 // held, but not in use
}

// A heapReader reads heapViews.
type heapReader []metrics.Sample

func newHeapReader() heapReader {
	return heapReader{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
}

func (r heapReader) read() heapView {
	metrics.Read(r)
	return heapView{r[0].Value.Uint64(), r[1].Value.Uint64(), r[2].Value.Uint64(), r[3].Value.Uint64()}
}

// tendHeap looks after the heap until ctx ends, unless GOGC says how to.
//
// It has the garbage collector run as often as it would if the store's own memory
// was not in the heap. Without, the heap grows to twice what lives before anything
// is collected: of 200 MB that the store holds anyway, to 400 MB. And when the
// server has come to rest it gives back what a load has left behind, which the
// runtime would keep for the next one.
func (n *Node) tendHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return // somebody knows better
	}
	usual := debug.SetGCPercent(100)
	debug.SetGCPercent(usual)
	if usual <= 0 {
		return
	}
	defer debug.SetGCPercent(usual)
	tick := time.NewTicker(collectTick)
	defer tick.Stop()
	heap := newHeapReader()
	was := usual
	rest := rest{allocated: heap.read().allocated}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v := heap.read()
		if arenas := n.store.Arenas(); arenas > 0 {
			percent := collectAt(int64(v.live), arenas, usual)
			// Each change stops everything for a moment: small ones are not worth it.
			if d := percent - was; d >= 5 || d <= -5 {
				debug.SetGCPercent(percent)
				was = percent
			}
		}
		if rest.at(v) && (n.store.Rest(ctx) || v.spare() > v.room()) {
			debug.FreeOSMemory()
		}
	}
}

// A rest tells when little was allocated for a while.
type rest struct {
	ticks     int
	allocated uint64 // when they began
}

// at is told of the heap at every tick.
func (r *rest) at(v heapView) bool {
	if r.ticks++; r.ticks < restTicks {
		return false
	}
	grown := v.allocated - r.allocated
	*r = rest{allocated: v.allocated}
	return grown < restBytes
}

// spare is what could be given back, room how much may be kept.
func (v heapView) spare() uint64 { return v.free + v.objects - min(v.live, v.objects) }
func (v heapView) room() uint64  { return max(collectRoom, v.live/8) }

// collectAt is by how many percent the heap may grow until it is collected, if so
// much of it lives, and so much of that is the store's.
func collectAt(live, arenas int64, usual int) int {
	if live <= 0 {
		return usual
	}
	grow := max(live-arenas, 0) * int64(usual) / 100
	grow = max(grow+collectRoom-min(grow/2, collectEarly), collectSmall-live)
	return min(usual, max(leastPercent, int(grow*100/live)))
}
