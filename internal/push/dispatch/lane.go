package dispatch

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parleychat/parley/internal/store"
)

const (
	laneIdle   = 10 * time.Minute // without a job, until a lane ends
	longestNap = time.Second      // between looks at the clock, which may be moved
	stopGrace  = 3 * time.Second  // for requests under way when the server stops
)

// A lane takes the jobs of one credential to its provider. What it remembers is
// guarded by mu; run owns the order of things.
type lane struct {
	d       *Dispatcher
	id      store.PushLane
	wake    chan struct{}   // has one when there may be something to do
	stopped context.Context // that of run: when it has ended nothing more is begun
	now     func() time.Time

	flying sync.WaitGroup

	mu      sync.Mutex
	behind  [store.PushPriorities]store.PushPlace // up to where jobs were read
	waiting [store.PushPriorities]int             // rows, those in memory among them
	next    [store.PushPriorities]int64           // Unix ms: nothing that was not read is due before; 0 when not known
	early   [store.PushPriorities]int64           // Unix ms: when the first is due that was put while a page is read
	freed   [store.PushPriorities][]store.PushJob // come before those that are ready, the last one first
	ready   [store.PushPriorities][]store.PushJob // read, in order
	inHand  map[placeKey]struct{}                 // what is read or under way: its row is still there
	reading bool                                  // a page is being read
	gone    map[placeKey]struct{}                 // rows that went meanwhile, which the page may have
	devices map[uint64]*queueOfDevice             // devices that something is under way to
	storms  storms
	flight  int // requests under way
	untold  int // notifications that the provider has taken, and that is not written yet
	quick   quick
	lastJob time.Time

	seat     *seat // nil when there is no credential
	changes  uint64
	haveSeat bool
	homeless bool // there is no credential: jobs may have another lane to go to
	limiter  *rate.Limiter
	promised int // notifications that who is taking them may take, of the rate

	halt       store.PushHalt // Since 0 when there is none
	probeAt    time.Time      // when a halted lane, or one with an open breaker, tries one
	failures   int            // in a row
	probing    bool
	pause      time.Time // nothing is sent until then
	pauses     int       // in a row, for those that say nothing of how long
	opening    opening
	sweepAt    time.Time
	successes  uint64
	lastGood   time.Time // zero for never
	gate       gate
	standSince time.Time // since when nothing could be sent though something waits; zero otherwise
}

type placeKey struct {
	priority uint8
	place    store.PushPlace
}

func keyOf(j *store.PushJob) placeKey { return placeKey{j.Priority, j.PushPlace} }

// A queueOfDevice is what waits in memory for one device that something is under
// way to, so that its notifications come in order.
type queueOfDevice struct{ jobs []store.PushJob }

func newLane(d *Dispatcher, id store.PushLane) *lane {
	return &lane{
		d: d, id: id, now: d.Now, wake: make(chan struct{}, 1),
		inHand: map[placeKey]struct{}{}, devices: map[uint64]*queueOfDevice{}, lastJob: d.Now(),
	}
}

// name is the lane in logs.
func (l *lane) name() string {
	s := strconv.FormatUint(uint64(l.id.App), 10) + "/" + l.id.Provider.String()
	for _, part := range [...]string{l.id.Environment.String(), l.id.Package} {
		if part != "" {
			s += "/" + part
		}
	}
	return s
}

func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l.mu.Lock()
	l.stopped = ctx
	l.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		nap, end := l.step(ctx, sending)
		if end {
			break
		}
		if nap <= 0 {
			continue
		}
		timer.Reset(min(nap, longestNap))
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		}
	}
	stop := time.AfterFunc(stopGrace, cancel)
	defer stop.Stop()
	l.flying.Wait()
	l.sit(nil)
	l.flying.Wait() // for what closes the adapter
}

// step does what can be done now, and says how long there may be nothing more to
// do, and whether the lane has come to its end.
func (l *lane) step(ctx, sending context.Context) (nap time.Duration, end bool) {
	if err := l.refresh(ctx); err != nil {
		return time.Second, false
	}
	l.askDead(sending, l.now())
	for {
		now := l.now()
		nap, one := l.closed(now)
		if nap > 0 {
			if l.timeToSweep(now) {
				l.rehome(ctx)
				l.sweep(ctx, now)
			}
			return nap, l.idle(now) && l.d.lanes.end(l)
		}
		batch, nap := l.take(ctx, now, one)
		if len(batch) == 0 {
			return nap, nap > 0 && l.idle(now) && l.d.lanes.end(l)
		}
		l.mu.Lock()
		at := l.seat
		at.users.Add(1)
		l.mu.Unlock()
		l.flying.Go(func() {
			defer at.users.Done()
			for probe := one; batch != nil; probe = false {
				l.attempt(sending, at, batch, probe)
				batch = l.more(at)
			}
			l.nudge()
		})
	}
}

// idle reports whether the lane has had nothing to do for long.
func (l *lane) idle(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.waiting {
		if n > 0 {
			return false
		}
	}
	// As long as it is not written what came of jobs their rows are there, and a lane
	// that took the place of this one would send them again.
	return l.flight == 0 && len(l.inHand) == 0 && l.halt.Since == 0 && now.Sub(l.lastJob) >= laneIdle
}

// written takes note of new jobs.
func (l *lane) written(jobs []store.PushJob) {
	l.mu.Lock()
	for i := range jobs {
		l.noteLocked(&jobs[i])
	}
	l.lastJob = l.now()
	l.mu.Unlock()
	l.nudge()
}

func (l *lane) noteLocked(j *store.PushJob) {
	l.waiting[j.Priority]++
	l.rewindLocked(j)
}

// room is how many more jobs of the priority may wait.
func (l *lane) room(priority uint8) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.d.Queue
	switch {
	case priority == priorityAll:
		limit /= 2 // broadcasts must leave room
	case priority > 0:
		limit -= limit / 10 // the last tenth is for calls
	}
	return limit - l.allLocked()
}

// allLocked is how many jobs wait.
func (l *lane) allLocked() (n int) {
	for _, w := range l.waiting {
		n += w
	}
	return n
}

func (l *lane) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.standSince.IsZero() && l.allLocked() > l.d.Queue/4
}
