package dispatch

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	settlePause = 5 * time.Millisecond // between writes, so that many go in one
	settleMost  = 4000                 // jobs in one write
)

// A settler writes what has become of jobs, of all lanes together: it is synced, so
// that a crash has few notifications sent again, and a sync of each lane's own
// would be many.
type settler struct {
	store  Store
	warn   func(string, error)
	late   func(context.Context, *store.PushShownOf, string) error // told of what a device shows, once that is written
	opened chan struct{}                                           // has one when there is something to write

	mu      sync.Mutex
	list    []settled
	writing int
}

// settled is what has become of a job: its row goes, and there is an outcome, or
// another row in its place. Without a lane it is of no job.
type settled struct {
	lane    *lane
	drop    store.PushJob
	taken   bool // by the provider
	put     *store.PushJob
	outcome *store.PushOutcome
	shown   *store.PushShownOf
	unshown *store.PushShownOf // nothing up to its message is shown any more
	halt    *store.PushHalt
}

func newSettler(d *Dispatcher) *settler {
	return &settler{store: d.Store, warn: d.warn, late: d.shownLate, opened: make(chan struct{}, 1)}
}

// unshown notes that nothing of the channel is shown any more, up to a message.
// That too is written here alone: what is shown could be written meanwhile.
func (s *settler) unshown(ch store.ChannelRef, uid chat.UID) {
	s.add(settled{unshown: &store.PushShownOf{Channel: ch, UID: uid}})
}

// halted notes that a lane is halted, or is not any more. The caller holds its mu, so
// that what is written last is what is so.
func (s *settler) halted(h *store.PushHalt) { s.add(settled{halt: h}) }

func (s *settler) add(e settled) {
	s.mu.Lock()
	s.list = append(s.list, e)
	first := len(s.list) == 1
	s.mu.Unlock()
	if first {
		select {
		case s.opened <- struct{}{}:
		default:
		}
	}
}

// behind is how much is not written yet.
func (s *settler) behind() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list) + s.writing
}

// run writes until stop is closed, and then what is left.
func (s *settler) run(stop <-chan struct{}) {
	last := false
	for {
		select {
		case <-s.opened:
		case <-stop:
			last = true
		}
		for {
			s.mu.Lock()
			n := min(len(s.list), settleMost)
			batch := s.list[:n:n]
			s.list = s.list[n:]
			s.writing = n
			s.mu.Unlock()
			if n == 0 {
				break
			}
			s.write(batch, stop)
			if !last {
				time.Sleep(settlePause)
			}
		}
		if last {
			return
		}
	}
}

// write writes a batch, again and again until that succeeds: what is in hand stays
// there until then, so nothing is sent twice for it.
func (s *settler) write(batch []settled, stop <-chan struct{}) {
	c := changeOf(batch)
	pause := time.Duration(0)
	for {
		// What has happened outside cannot be called off.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		var err error
		if c.Shown, err = s.shownOf(ctx, batch); err == nil {
			err = s.store.ChangePush(ctx, c)
		}
		cancel()
		if err == nil {
			break
		}
		s.warn("writing what became of push jobs", err)
		pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
		select {
		case <-stop:
			return // they are done again after the start
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
	for i := range batch {
		if batch[i].lane != nil {
			batch[i].lane.wrote(&batch[i])
		}
	}
	for i := range batch {
		if batch[i].lane != nil {
			batch[i].lane.nudge()
		}
	}
	for at, x := range shownBy(batch) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := s.late(ctx, x, at.device); err != nil {
			s.warn("looking whether a notification was read meanwhile", err)
		}
		cancel()
	}
	s.mu.Lock()
	s.writing = 0
	s.mu.Unlock()
}

type screen struct {
	channel store.ChannelRef
	device  string
}

// shownBy is the newest message of each channel that each device was notified of.
func shownBy(batch []settled) (list map[screen]*store.PushShownOf) {
	for i := range batch {
		e := &batch[i]
		if e.shown == nil {
			continue
		}
		if list == nil {
			list = map[screen]*store.PushShownOf{}
		}
		at := screen{e.shown.Channel, e.drop.Device}
		if had := list[at]; had == nil || had.UID.Compare(e.shown.UID) < 0 {
			list[at] = e.shown
		}
	}
	return list
}

// shownOf is what is shown of channels after the batch, where that is another than
// before: devices are notified in no order, and the newest counts.
func (s *settler) shownOf(ctx context.Context, batch []settled) (list []store.PushShownOf, err error) {
	type change struct{ shown, gone chat.UID }
	var changes map[store.ChannelRef]change
	newer := func(a chat.UID, x *store.PushShownOf) chat.UID {
		if x != nil && x.UID.Compare(a) > 0 {
			return x.UID
		}
		return a
	}
	for i := range batch {
		e := &batch[i]
		for _, x := range [...]*store.PushShownOf{e.shown, e.unshown} {
			if x == nil {
				continue
			}
			if changes == nil {
				changes = map[store.ChannelRef]change{}
			}
			c := changes[x.Channel]
			changes[x.Channel] = change{newer(c.shown, e.shown), newer(c.gone, e.unshown)}
		}
	}
	for ch, c := range changes {
		was, err := s.store.PushShown(ctx, ch)
		if err != nil {
			return nil, err
		}
		now := newer(c.shown, &store.PushShownOf{UID: was})
		if now.Compare(c.gone) <= 0 {
			now = chat.UID{}
		}
		if now != was {
			list = append(list, store.PushShownOf{Channel: ch, UID: now})
		}
	}
	return list, nil
}

func changeOf(batch []settled) *store.PushChange {
	c := &store.PushChange{Sync: true, Drop: make([]store.PushJob, 0, len(batch))}
	type row struct {
		lane store.PushLane
		key  placeKey
	}
	puts := map[row]int{}
	for i := range batch {
		e := &batch[i]
		if e.halt != nil {
			c.Halt = append(c.Halt, *e.halt)
		}
		if e.lane == nil {
			continue
		}
		at := row{e.drop.Lane, keyOf(&e.drop)}
		if k, ok := puts[at]; ok {
			// It was put only just now: it never gets there.
			c.Put[k].Lane.Provider = 0
			delete(puts, at)
		} else {
			c.Drop = append(c.Drop, e.drop)
		}
		if e.put != nil {
			puts[row{e.put.Lane, keyOf(e.put)}] = len(c.Put)
			c.Put = append(c.Put, *e.put)
		}
		if e.outcome != nil {
			c.Outcomes = append(c.Outcomes, *e.outcome)
		}
	}
	kept := c.Put[:0]
	for _, j := range c.Put {
		if j.Lane.Provider != 0 {
			kept = append(kept, j)
		}
	}
	c.Put = kept
	return c
}

// wrote notes that what became of a job is written.
func (l *lane) wrote(e *settled) {
	l.mu.Lock()
	k := keyOf(&e.drop)
	delete(l.inHand, k)
	if e.taken {
		l.untold--
	}
	if l.reading {
		if l.gone == nil {
			l.gone = map[placeKey]struct{}{}
		}
		l.gone[k] = struct{}{}
	}
	if e.put != nil && e.put.Lane == l.id {
		l.rewindLocked(e.put)
	}
	l.mu.Unlock()
	if e.put != nil && e.put.Lane != l.id {
		l.d.lanes.put([]store.PushJob{*e.put})
	}
}
