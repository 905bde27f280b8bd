package room

import (
	"container/heap"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const (
	// A window that has this much is closed before its time: there would be no
	// fewer writes for waiting longer.
	fullCount = 64
	fullBytes = 48 << 10

	// mostCount and mostBytes bound a window while the batch before it is still
	// being handed out.
	mostCount = 4096
	mostBytes = 4 << 20

	// overhead is about what the wire adds to a message's content.
	overhead = 256

	// slice is how many members a pump serves before it looks for somebody
	// else's: less than a millisecond of writing.
	slice = 128
)

// The phases of a room.
const (
	resting uint8 = iota // the window is empty
	waiting              // the window is open; the room is among the waiting or the ready
	handing              // a batch is being handed out; the next window may be open
)

// fanOut is the part of a room that has to do with handing out. It is guarded by
// the room's mu where nothing else is said.
type fanOut struct {
	seq     uint64 // of what was published last
	ended   bool   // evict everybody when all is handed out
	phase   uint8
	window  []*Publication // published and not yet in a batch
	bytes   int            // about, in the window
	cadence cadence
	due     time.Duration // when the window is, or was, to be closed

	batch  *Batch        // being handed out
	closed time.Duration // when that was made
	walked int           // how far the list has been given to pumps
	end    int           // and how far it must be: who is behind that came later
	hands  int           // pumps that have a slice
	behind int           // members that were busy with the batch before
	holes  []int32       // places vacated meanwhile

	// Guarded by the pumps' mu.
	at        time.Duration // when it is to become ready
	heapIndex int           // in waiting, from 1; 0 when not there
	nextReady *room
}

// pumps hand out what is published: as many goroutines as there are processors
// for all rooms. A room with something to hand out waits for its time in a heap,
// for which there is one timer, and then for a pump in a queue. A pump takes the
// next slice of the room's members, puts the room behind the others in the queue
// again for the rest, and gives each of the slice the batch. So a large room
// takes as many pumps as are free, and a small one waits for some slices of
// others at most.
//
// Who is in the room when a batch is made is given it, and nobody else: those
// who come later are behind the end of the walk, and know everything up to their
// entry. Nobody changes places during a walk; who leaves leaves a hole. A room
// has one batch on the way at a time, which keeps the order.
type pumps struct {
	clock func() time.Duration
	size  int

	mu         sync.Mutex // tier 3: nothing is taken inside
	wake       sync.Cond
	head, tail *room // ready, linked by nextReady
	waiting    roomHeap
	stopping   bool

	earlier chan struct{} // the first of the waiting has changed

	overflowed atomic.Uint64 // publications given up because a window was full
}

func newPumps() pumps {
	start := time.Now()
	return pumps{
		clock:   func() time.Duration { return time.Since(start) },
		size:    runtime.GOMAXPROCS(0),
		earlier: make(chan struct{}, 1),
	}
}

// run pumps until ctx ends and nothing is left.
func (p *pumps) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range p.size {
		wg.Go(func() {
			var hand hand
			for rm := p.pop(); rm != nil; rm = p.pop() {
				p.serve(rm, &hand)
				// Whoever waits for a processor gets it between two slices.
				runtime.Gosched()
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if at, any := p.ripen(); any {
			timer.Reset(at - p.clock())
		} else {
			timer.Stop() // nothing runs while nothing is said
		}
		select {
		case <-timer.C:
		case <-p.earlier:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.stopping = true
	for len(p.waiting) > 0 {
		p.readyLocked(heap.Pop(&p.waiting).(*room))
	}
	p.mu.Unlock()
	p.wake.Broadcast()
	wg.Wait()
}

// ripen makes the rooms ready whose time has come, and tells when the next one's
// comes, if there is one.
func (p *pumps) ripen() (next time.Duration, any bool) {
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 {
		if first := p.waiting[0]; first.at > now {
			return first.at, true
		}
		p.readyLocked(heap.Pop(&p.waiting).(*room))
		p.wake.Signal()
	}
	return 0, false
}

func (p *pumps) readyLocked(rm *room) {
	rm.nextReady = nil
	if p.tail == nil {
		p.head = rm
	} else {
		p.tail.nextReady = rm
	}
	p.tail = rm
}

// ready puts the room into the queue for a pump.
func (p *pumps) ready(rm *room) {
	p.mu.Lock()
	p.readyLocked(rm)
	p.mu.Unlock()
	p.wake.Signal()
}

// schedule makes the room ready at the given time.
func (p *pumps) schedule(rm *room, at, now time.Duration) {
	p.mu.Lock()
	if at <= now || p.stopping {
		p.readyLocked(rm)
		p.mu.Unlock()
		p.wake.Signal()
		return
	}
	rm.at = at
	heap.Push(&p.waiting, rm)
	first := rm.heapIndex == 1
	p.mu.Unlock()
	if first {
		select {
		case p.earlier <- struct{}{}:
		default:
		}
	}
}

// hurry makes the room ready if it is still waiting.
func (p *pumps) hurry(rm *room) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rm.heapIndex > 0 {
		heap.Remove(&p.waiting, rm.heapIndex-1)
		p.readyLocked(rm)
		p.wake.Signal()
	}
}

// pop waits for a room that is ready. It gives nil when the pumps stop and
// nothing is left.
func (p *pumps) pop() *room {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.head == nil {
		if p.stopping {
			return nil
		}
		p.wake.Wait()
	}
	return p.popLocked()
}

func (p *pumps) popLocked() *room {
	rm := p.head
	if p.head = rm.nextReady; p.head == nil {
		p.tail = nil
	}
	rm.nextReady = nil
	return rm
}

// add puts a publication into the room's window, with the room's mu held.
func (p *pumps) add(rm *room, pub *Publication) {
	rm.seq++
	pub.Seq = rm.seq
	if rm.seated == 0 {
		return
	}
	size := sizeOf(pub)
	if len(rm.window) >= mostCount || rm.bytes+size > mostBytes && len(rm.window) > 0 {
		rm.giveUp(pub)
		p.overflowed.Add(1)
	}
	rm.window = append(rm.window, pub)
	rm.bytes += size
	switch rm.phase {
	case resting:
		p.open(rm)
	case waiting:
		if rm.full() {
			if now := p.clock(); now < rm.due {
				rm.due = now
				p.hurry(rm)
			}
		}
	}
}

// open has the room wait for when its window is to be closed.
func (p *pumps) open(rm *room) {
	now := p.clock()
	rm.phase, rm.due = waiting, now
	if !rm.full() && !rm.ended {
		rm.due = max(now, rm.cadence.next)
	}
	p.schedule(rm, rm.due, now)
}

func (rm *room) full() bool { return len(rm.window) >= fullCount || rm.bytes >= fullBytes }

func sizeOf(p *Publication) int { return overhead + len(p.Message.Content) }

// giveUp takes out of the window the oldest publication of the least rank there
// is. Nobody is given it; the ring has it still.
func (rm *room) giveUp(next *Publication) {
	least := 0
	for i, p := range rm.window {
		if p.Rank() < rm.window[least].Rank() {
			least = i
		}
	}
	rm.bytes -= sizeOf(rm.window[least])
	rm.window = append(rm.window[:least], rm.window[least+1:]...)
}

// A Rank says who gives way to whom where there is not enough room for all.
type Rank uint8

// The ranks, the first to give way first.
const (
	RankLow Rank = iota
	RankStandard
	RankHigh
	RankKept // allowlisted: never given up for a slow member
	Ranks
)

var ranks = [...]Rank{
	chat.PriorityStandard:    RankStandard,
	chat.PriorityAllowlisted: RankKept,
	chat.PriorityHigh:        RankHigh,
	chat.PriorityLow:         RankLow,
}

// Rank is the publication's rank.
func (p *Publication) Rank() Rank { return ranks[p.Message.Priority] }

// A hand is what a pump needs to serve a slice, kept for the next one.
type hand struct {
	members [slice]Member
	after   [slice]uint64
}

// serve gives a slice of the room's members their batch, which is made first
// where there is none.
func (p *pumps) serve(rm *room, h *hand) {
	rm.mu.Lock()
	if rm.batch == nil && !rm.close(p.clock()) {
		rm.mu.Unlock()
		return
	}
	b, n := rm.batch, 0
	for last := b.last(); rm.walked < rm.end && n < slice; rm.walked++ {
		if m := rm.list[rm.walked]; m != nil {
			if after := m.place().after; after < last {
				h.members[n], h.after[n] = m, after
				n++
			}
		}
	}
	more := rm.walked < rm.end
	rm.hands++
	rm.mu.Unlock()
	if more {
		p.ready(rm)
	}

	behind := 0
	for i, m := range h.members[:n] {
		if m.Deliver(b, h.after[i]) {
			behind++
		}
	}
	clear(h.members[:n])

	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.behind += behind
	if rm.hands--; rm.hands > 0 || rm.walked < rm.end {
		return
	}
	p.done(rm)
}

// close makes a batch of the window, unless nobody is left to give it to.
func (rm *room) close(now time.Duration) bool {
	window := rm.window
	rm.window, rm.bytes = nil, 0
	if rm.seated == 0 {
		rm.phase = resting
		return false // nor to evict
	}
	rm.phase = handing
	rm.batch = &Batch{Publications: window}
	rm.closed = now
	rm.walked, rm.end, rm.behind = 0, len(rm.list), 0
	return true
}

// done ends a walk that has been all the way.
func (p *pumps) done(rm *room) {
	now := p.clock()
	rm.cadence.flushed(rm.due, rm.closed, now, rm.behind > rm.end/2)
	rm.batch, rm.phase = nil, resting
	for _, hole := range rm.holes {
		rm.fill(int(hole))
	}
	rm.trim()
	rm.holes = nil
	switch {
	case len(rm.window) > 0:
		p.open(rm)
	case rm.ended:
		rm.evictAll()
	}
}

// end has everybody evicted who is in the room, now or when they have what was
// said before.
func (p *pumps) end(rm *room) {
	rm.ended = true
	switch rm.phase {
	case resting:
		rm.evictAll()
	case waiting:
		p.hurry(rm)
	}
}

// evictAll takes everybody out of a room that has ended.
func (rm *room) evictAll() {
	for _, m := range rm.list {
		if m != nil {
			m.place().index = 0
			m.Evict(Ended)
		}
	}
	rm.list, rm.seated = nil, 0
}

// evicted is a member that was taken out, and what it is still given.
type evicted struct {
	m     Member
	after uint64
	rest  []*Batch
}

// evict takes a member out. It is given what was said before, its own ban
// perhaps, unless pumps are at work just now and one may have it in hand: then
// only what that brings.
func (rm *room) evict(m Member) evicted {
	p := m.place()
	e := evicted{m: m, after: p.after}
	if i := int(p.index); rm.phase != handing || i > rm.walked || rm.hands == 0 {
		if rm.phase == handing && rm.walked < i && i <= rm.end {
			e.rest = append(e.rest, rm.batch)
		}
		if len(rm.window) > 0 {
			e.rest = append(e.rest, &Batch{Publications: slices.Clone(rm.window)})
		}
	}
	rm.remove(m)
	return e
}

// tell is to be called with no lock held.
func (e *evicted) tell(why Reason) {
	for _, b := range e.rest {
		e.m.Deliver(b, e.after)
	}
	e.m.Evict(why)
}

// vacate takes the i-th member out of the list.
func (rm *room) vacate(i int) {
	rm.list[i] = nil
	if rm.phase == handing {
		rm.holes = append(rm.holes, int32(i))
	} else {
		rm.fill(i)
		rm.trim()
	}
}

// fill moves the last member into the hole.
func (rm *room) fill(hole int) {
	if rm.trim(); hole >= len(rm.list) {
		return
	}
	last := len(rm.list) - 1
	rm.list[hole], rm.list[last] = rm.list[last], nil
	rm.list[hole].place().index = int32(hole) + 1
}

func (rm *room) trim() {
	n := len(rm.list)
	for n > 0 && rm.list[n-1] == nil {
		n--
	}
	rm.list = rm.list[:n]
}

// Overflowed is how many publications were given up for a whole room because
// handing out could not keep up.
func (r *Rooms) Overflowed() uint64 { return r.pumps.overflowed.Load() }

// A roomHeap has the room that is due first in front.
type roomHeap []*room

func (h roomHeap) Len() int           { return len(h) }
func (h roomHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h roomHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i+1, j+1
}
func (h *roomHeap) Push(x any) {
	rm := x.(*room)
	*h = append(*h, rm)
	rm.heapIndex = len(*h)
}
func (h *roomHeap) Pop() any {
	old := *h
	last := len(old) - 1
	rm := old[last]
	old[last] = nil
	*h = old[:last]
	rm.heapIndex = 0
	return rm
}
