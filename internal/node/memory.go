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
	// leastPercent bounds how often a large heap is collected.
	leastPercent = 10
)

// tendHeap has the garbage collector run as often as it would if the store's own
// memory was not in the heap, until ctx ends. Without, the heap grows to twice what
// lives before anything is collected: of 200 MB that the store holds anyway, to
// 400 MB.
func (n *Node) tendHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" || n.store.Arenas() == 0 {
		return // somebody knows better, or there is nothing to tend
	}
	usual := debug.SetGCPercent(100)
	debug.SetGCPercent(usual)
	if usual <= 0 {
		return
	}
	defer debug.SetGCPercent(usual)
	tick := time.NewTicker(collectTick)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	was := usual
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		percent := collectAt(int64(live[0].Value.Uint64()), n.store.Arenas(), usual)
		// Each change stops everything for a moment: small ones are not worth it.
		if d := percent - was; d >= 5 || d <= -5 {
			debug.SetGCPercent(percent)
			was = percent
		}
	}
}

// collectAt is by how many percent the heap may grow until it is collected, if so
// much of it lives, and so much of that is the store's.
func collectAt(live, arenas int64, usual int) int {
	if live <= 0 {
		return usual
	}
	own := max(live-arenas, 0)
	return min(usual, max(leastPercent, int((own*int64(usual)/100+collectRoom)*100/live)))
}
