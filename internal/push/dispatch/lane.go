package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	pageSize     = 1000             // jobs read at once
	mostAhead    = 2 * time.Hour    // nothing is put off for longer: what is due later was put by a wrong clock
	maxAttempts  = 8                // that count
	maxBackoff   = 10 * time.Minute // between two attempts
	breakAfter   = 10               // failures in a row
	probePause   = 10 * time.Second // between attempts while the breaker is open
	haltPause    = 10 * time.Minute // between attempts while the lane is halted
	doubtPause   = 30 * time.Second // and while it is because of its tokens
	sweepPause   = 10 * time.Second // between looks for what has expired in a lane that stands still
	standstill   = 10 * time.Second // after which a lane begins slowly, whatever held it up
	laneIdle     = 10 * time.Minute // without a job, until a lane ends
	longestNap   = time.Second      // between looks at the clock, which may be moved
	stopGrace    = 3 * time.Second  // for requests under way when the server stops
	steadyRate   = 1000             // notifications a second that a lane is to manage, however little waits
	steadyLeast  = 32               // requests under way for that, at least
	repeatShare  = 200              // one of so many that wait may be under way besides
	maxUnsettled = 20_000           // jobs whose end is not written yet, until lanes wait
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

// A seat is an adapter and who is sitting on it.
type seat struct {
	push.Adapter
	credential chat.PushCredential
	users      sync.WaitGroup
}

func newLane(d *Dispatcher, id store.PushLane) *lane {
	return &lane{
		d: d, id: id, now: d.Now, wake: make(chan struct{}, 1),
		inHand: map[placeKey]struct{}{}, devices: map[uint64]*queueOfDevice{}, lastJob: d.Now(),
	}
}

func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
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

// rewindLocked has the job read, though it may be behind what was read already.
func (l *lane) rewindLocked(j *store.PushJob) {
	p := j.Priority
	l.early[p] = min(l.early[p], j.Due)
	l.next[p] = min(l.next[p], j.Due)
	if at := &l.behind[p]; j.Due <= at.Due {
		*at = store.PushPlace{Due: j.Due - 1}
	}
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
			for batch != nil {
				l.attempt(sending, at, batch, one)
				batch, one = l.more(at), false
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

// refresh takes the adapter of the credential as it is now.
func (l *lane) refresh(ctx context.Context) error {
	app := l.d.Directory.AppByID(l.id.App)
	if app == nil {
		l.sit(nil)
		l.mu.Lock()
		l.haveSeat = false
		l.mu.Unlock()
		return nil
	}
	s, err := l.d.setupOf(ctx, app)
	if err != nil {
		return err
	}
	l.mu.Lock()
	same := l.haveSeat && l.changes == s.changes
	l.mu.Unlock()
	if same {
		return nil
	}
	var c *chat.PushCredential
	for i := range s.credentials {
		if isOf(l.id, app.ID, &s.credentials[i]) {
			c = &s.credentials[i]
		}
	}
	l.mu.Lock()
	old := l.seat
	l.changes, l.haveSeat = s.changes, true
	l.mu.Unlock()
	if old != nil && c != nil && old.credential.Same(c) {
		return nil
	}
	var next *seat
	if c != nil {
		a, err := l.d.Adapter(c)
		if err != nil {
			l.d.Logger.Error("a push credential is of no use", "app", app.Key, "provider", c.Provider.String(), "package", c.Package, "error", err)
		} else {
			next = &seat{Adapter: a, credential: *c}
		}
	}
	l.sit(next)
	l.mu.Lock()
	halted := l.halt
	l.limiter = limiterOf(l.id.Provider, c)
	l.pause, l.pauses = time.Time{}, 0
	if l.homeless = c == nil; l.homeless {
		l.releaseLocked()
	}
	l.mu.Unlock()
	// Another credential may be what was missing.
	if next != nil && halted.Since != 0 && c.Since > halted.Since {
		l.resume()
	}
	return nil
}

// sit puts an adapter in place of the one there is, which is closed once nothing
// is under way with it.
func (l *lane) sit(next *seat) {
	l.mu.Lock()
	old := l.seat
	l.seat = next
	l.mu.Unlock()
	if old != nil && old != next {
		l.flying.Go(func() {
			old.users.Wait()
			old.Close()
		})
	}
}

// rates are how many notifications a second providers take, where they say so.
var rates = map[chat.PushProvider]rate.Limit{
	chat.HW: 6000, chat.OHOS: 6000, chat.HONOR: 3000, chat.MI: 500, chat.OPPO: 5000, chat.VIVO: 3000, chat.MEIZU: 200,
	chat.FCM: 10_000,
}

// limiterOf is the rate of a credential; nil is none.
func limiterOf(p chat.PushProvider, c *chat.PushCredential) *rate.Limiter {
	limit := rates[p]
	if c != nil {
		if n, err := strconv.Atoi(c.Fields["rate"]); err == nil && n > 0 {
			limit = rate.Limit(n)
		}
	}
	if limit == 0 {
		return nil
	}
	return rate.NewLimiter(limit, max(1, int(limit)/10))
}

// closed says for how long nothing may be sent, or that only one may, to see
// whether it goes.
func (l *lane) closed(now time.Time) (nap time.Duration, one bool) {
	if n := l.d.settler.behind(); n >= maxUnsettled {
		return 100 * time.Millisecond, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	nap, one = l.closedLocked(now)
	if nap > 0 && l.standSince.IsZero() {
		l.standSince = now
	}
	if nap <= 0 && !one && !l.standSince.IsZero() {
		if now.Sub(l.standSince) >= standstill && l.opening.width == 0 {
			l.opening.narrow(2 * l.d.InFlight)
		}
		l.standSince = time.Time{}
	}
	return nap, one
}

// closedLocked is closed as far as it is the provider's doing.
func (l *lane) closedLocked(now time.Time) (nap time.Duration, one bool) {
	switch {
	case l.seat == nil:
		return time.Minute, false
	case l.usedUpLocked(now):
		return time.UnixMilli(l.halt.Until).Sub(now), false
	case now.Before(l.pause):
		return l.pause.Sub(now), false
	case l.halt.Since != 0 && l.halt.Until == 0 || l.failures >= breakAfter:
		if l.probing {
			return longestNap, false
		}
		nap = max(l.probeAt.Sub(now), 0)
		return nap, nap == 0
	}
	return 0, false
}

// usedUpLocked reports whether the quota of the day is used up. A day that is longer
// than days are was found out by a wrong clock.
func (l *lane) usedUpLocked(now time.Time) bool {
	left := time.UnixMilli(l.halt.Until).Sub(now)
	return l.halt.Since != 0 && left > 0 && left <= 24*time.Hour
}

// mostLocked is how many requests may be under way now, those not counted out of
// which it is not written yet what came. All of them could be sent again after a
// crash, so there are not more than it takes: the quicker the provider the fewer,
// and the more the more waits anyway.
func (l *lane) mostLocked() int {
	steady := int(steadyRate * l.quick.least().Seconds())
	return min(l.d.InFlight, max(steadyLeast, steady, l.allLocked()/repeatShare))
}

// quickTurn is how often a lane forgets how quick its provider was before.
const quickTurn = 5 * time.Second

// A quick knows the shortest time in which a provider has lately taken a
// notification. It is of the provider; longer ones are of whoever is busy too.
type quick struct {
	since     time.Time
	now, last time.Duration // 0 is none
}

func (q *quick) took(d time.Duration, at time.Time) {
	switch age := at.Sub(q.since); {
	case age < quickTurn:
		q.now = min(q.now, d)
		return
	case age < 2*quickTurn:
		q.last = q.now
	default:
		q.last = d
	}
	q.now, q.since = d, at
}

func (q *quick) least() time.Duration { return min(q.now, q.last) }

// take takes what is to be sent next: at most as many as go in one request, and
// one only when that is asked for. Nothing comes with how long there may be
// nothing.
func (l *lane) take(ctx context.Context, now time.Time, one bool) (batch []store.PushJob, nap time.Duration) {
	if l.urgent(now) {
		_, _, _ = l.fill(ctx, now)
	}
	for {
		batch, nap = l.takeReady(now, one)
		if len(batch) > 0 {
			return batch, nap
		}
		if nap > 0 {
			// Who is under way goes on with what is at hand: it should not run out.
			if l.low() {
				_, _, _ = l.fill(ctx, now)
			}
			return nil, nap
		}
		read, wait, err := l.fill(ctx, now)
		if err != nil || !read {
			return nil, max(wait, time.Millisecond)
		}
	}
}

// takeReady is take among what was read. Nothing, and no time to wait, is that
// there is room for more than was read.
func (l *lane) takeReady(now time.Time, one bool) (batch []store.PushJob, nap time.Duration) {
	most, nap := l.reserve(now, one)
	if most == 0 {
		return nil, nap
	}
	for len(batch) < most {
		l.mu.Lock()
		j, ok := l.nextLocked()
		l.mu.Unlock()
		if !ok {
			break
		}
		if !l.hold(&j, now) {
			batch = append(batch, j)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised -= most
	if len(batch) == 0 {
		l.flight--
		return nil, 0
	}
	if l.limiter != nil {
		l.limiter.ReserveN(time.Now(), len(batch))
	}
	if one {
		l.probing = true
		l.probeAt = now.Add(probePause)
		if l.halt.Since != 0 {
			l.probeAt = now.Add(pauseOf(&l.halt))
		}
	}
	return batch, 0
}

// reserve counts a request as under way, and so many notifications as sent, before
// others look what there is room for: they take at the same time. 0 is that there is
// no room, for as long as nap.
func (l *lane) reserve(now time.Time, one bool) (most int, nap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// It may have been closed since the lane was asked.
	if nap, only := l.closedLocked(now); nap > 0 || only && !one {
		return 0, longestNap
	}
	if l.flight+l.untold >= l.mostLocked() || !one && !l.opening.fits(l.flight) {
		return 0, longestNap
	}
	most = max(l.seat.Batch(), 1)
	if one {
		most = 1
	} else if l.opening.width > 0 {
		most = min(most, l.opening.width)
	}
	if l.limiter != nil {
		left := l.limiter.TokensAt(time.Now()) - float64(l.promised)
		if left < 1 {
			return 0, time.Duration((1 - left) / float64(l.limiter.Limit()) * float64(time.Second))
		}
		most = min(most, int(left))
	}
	l.flight++
	l.promised += most
	return most, 0
}

// urgent reports whether something is to be read that comes before what was read.
func (l *lane) urgent(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.ready {
		if len(l.ready[p]) > 0 {
			return false
		}
		if l.next[p] <= now.UnixMilli() {
			return true
		}
	}
	return false
}

// low reports whether little is left of what was read.
func (l *lane) low() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for p := range l.ready {
		n += len(l.ready[p])
	}
	return n < pageSize/4
}

// more is the next batch for who has just sent one: as long as there is something
// at hand, it need not be told by run. The seat is the one that it sits on.
func (l *lane) more(at *seat) []store.PushJob {
	now := l.now()
	l.mu.Lock()
	same := l.seat == at && l.stopped.Err() == nil
	l.mu.Unlock()
	if !same {
		return nil
	}
	if nap, one := l.closed(now); nap > 0 || one {
		return nil
	}
	batch, _ := l.takeReady(now, false)
	if l.low() {
		l.nudge()
	}
	return batch
}

// nextLocked is the next job of a device that nothing is under way to.
func (l *lane) nextLocked() (store.PushJob, bool) {
	for p := range l.ready {
		for len(l.freed[p])+len(l.ready[p]) > 0 {
			var j store.PushJob
			if n := len(l.freed[p]); n > 0 {
				j = l.freed[p][n-1]
				l.freed[p] = l.freed[p][:n-1]
			} else {
				j = l.ready[p][0]
				l.ready[p] = l.ready[p][1:]
			}
			h := hashOf(j.User, j.Device)
			if q := l.devices[h]; q != nil {
				q.jobs = append(q.jobs, j)
				continue
			}
			l.devices[h] = &queueOfDevice{}
			return j, true
		}
		l.freed[p], l.ready[p] = nil, nil
	}
	return store.PushJob{}, false
}

// free says that nothing is under way any more to the device; what has waited for
// that comes next.
func (l *lane) freeLocked(j *store.PushJob) {
	h := hashOf(j.User, j.Device)
	q := l.devices[h]
	delete(l.devices, h)
	if q == nil || len(q.jobs) == 0 {
		return
	}
	// All of them: the first to be taken has the others wait again.
	for i := len(q.jobs) - 1; i >= 0; i-- {
		k := &q.jobs[i]
		l.freed[k.Priority] = append(l.freed[k.Priority], *k)
	}
}

// fill reads more jobs. Where there are none it says for how long that will be so.
func (l *lane) fill(ctx context.Context, now time.Time) (read bool, nap time.Duration, err error) {
	for p := range uint8(store.PushPriorities) {
		l.mu.Lock()
		until := now.UnixMilli()
		if next := l.next[p]; next != math.MaxInt64 && next > now.Add(mostAhead).UnixMilli() {
			until = math.MaxInt64
		}
		wanted := l.next[p] <= until && len(l.inHand) < l.most(p)
		l.mu.Unlock()
		if !wanted {
			continue
		}
		if read, err = l.read(ctx, p, until); err != nil {
			l.d.warn("reading push jobs", err)
			return false, time.Second, err
		}
		if read {
			return true, 0, nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := slices.Min(l.next[:])
	switch {
	case next == math.MaxInt64:
		if len(l.inHand) == 0 {
			l.waiting = [store.PushPriorities]int{} // for certain
		}
		return false, longestNap, nil
	case next <= now.UnixMilli(): // and as much is in hand as may be
		return false, longestNap, nil
	}
	return false, time.UnixMilli(next).Sub(now), nil
}

// most is how many jobs may be in hand to read more of the priority: what comes first
// is read though all the rest waits for one device.
func (l *lane) most(priority uint8) int {
	return l.d.InFlight + (4+store.PushPriorities-1-int(priority))*pageSize
}

// read reads more jobs of the priority, due by then, and reports whether there were
// any.
func (l *lane) read(ctx context.Context, p uint8, until int64) (some bool, err error) {
	for full := true; full; {
		l.mu.Lock()
		behind := l.behind[p]
		l.reading, l.early[p] = true, math.MaxInt64
		l.mu.Unlock()
		page, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, until, pageSize)
		if err != nil {
			l.doneReading()
			return false, err
		}
		some, full = l.got(p, page), len(page) == pageSize
		if some && full {
			return true, nil
		}
	}
	l.mu.Lock()
	behind := l.behind[p]
	l.next[p] = math.MaxInt64 // lowered by what is put meanwhile
	l.mu.Unlock()
	first, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, math.MaxInt64, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.next[p] = 0
	case len(first) > 0:
		l.next[p] = min(l.next[p], first[0].Due)
	}
	return some, err
}

// got takes in what was read, and reports whether anything of it was new.
func (l *lane) got(p uint8, page []store.PushJob) (some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(page) == 0 {
		l.doneReadingLocked()
		return false
	}
	l.behind[p] = page[len(page)-1].PushPlace
	if due := l.early[p]; due <= l.behind[p].Due {
		// It need not be in the page.
		l.behind[p] = store.PushPlace{Due: due - 1}
	}
	return l.gotLocked(page) > 0
}

// gotLocked takes in what was read, but for what is in hand already.
func (l *lane) gotLocked(page []store.PushJob) (added int) {
	newest := map[collapseKey]chat.UID{}
	for i := range page {
		if j := &page[i]; j.Collapse != 0 {
			// What was tried in vain is due later, and is older nevertheless.
			if k := collapseIn(j); newest[k].Compare(j.UID) < 0 {
				newest[k] = j.UID
			}
		}
	}
	for i := range page {
		j := &page[i]
		k := keyOf(j)
		if !l.mineLocked(k) {
			continue
		}
		l.inHand[k] = struct{}{}
		if j.Collapse != 0 && newest[collapseIn(j)] != j.UID {
			l.end(j, &store.PushOutcome{Class: "collapsed"}, nil)
			continue
		}
		l.ready[j.Priority] = append(l.ready[j.Priority], *j)
		added++
	}
	l.doneReadingLocked()
	return added
}

// mineLocked reports whether a job that was read is neither in hand already nor
// done since.
func (l *lane) mineLocked(k placeKey) bool {
	_, held := l.inHand[k]
	_, gone := l.gone[k]
	return !held && !gone
}

func (l *lane) doneReading() {
	l.mu.Lock()
	l.doneReadingLocked()
	l.mu.Unlock()
}

func (l *lane) doneReadingLocked() {
	l.reading = false
	clear(l.gone)
}

type collapseKey struct{ device, collapse uint64 }

func collapseIn(j *store.PushJob) collapseKey {
	return collapseKey{hashOf(j.User, j.Device), j.Collapse}
}

// timeToSweep reports whether a lane that stands still is to look at what waits.
func (l *lane) timeToSweep(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.sweepAt) {
		return false
	}
	l.sweepAt = now.Add(sweepPause)
	return true
}

// rows gives all that waits to f, page by page, of each priority until f wants no more
// of it, and reports whether it came to the end. It stops when more was taken in hand
// than can be written soon, and is to go on then.
func (l *lane) rows(ctx context.Context, f func(page []store.PushJob) (more bool)) bool {
	for p := range uint8(store.PushPriorities) {
		var behind store.PushPlace
		for more := true; more; {
			full := l.d.settler.behind() >= maxUnsettled
			l.mu.Lock()
			if full {
				l.sweepAt = time.Time{}
				l.mu.Unlock()
				return false
			}
			l.reading = true
			l.mu.Unlock()
			page, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, math.MaxInt64, pageSize)
			if more = len(page) == pageSize; len(page) > 0 {
				behind = page[len(page)-1].PushPlace
				more = f(page) && more
			}
			l.doneReading()
			if err != nil {
				return false
			}
		}
	}
	return true
}

// sweep ends what has expired in a lane that stands still.
func (l *lane) sweep(ctx context.Context, now time.Time) {
	l.rows(ctx, func(page []store.PushJob) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		quota := l.usedUpLocked(now)
		ended := false
		for i := range page {
			j := &page[i]
			class, code := "expired", j.Code
			switch {
			case !l.mineLocked(keyOf(j)):
				continue
			case j.Expires <= now.UnixMilli():
			case quota:
				// To go on asking for what is used up has it made less.
				class, code = push.QuotaDay.String(), l.halt.Code
			default:
				continue
			}
			l.inHand[keyOf(j)] = struct{}{}
			l.end(j, &store.PushOutcome{Class: class, Code: code}, nil)
			ended = true
		}
		// Jobs that expire stand at the beginning, calls aside, which are soon gone.
		return ended
	})
}

// rehome moves the jobs of a lane without a credential to the lanes of those by which
// their devices are notified now, if there are any.
func (l *lane) rehome(ctx context.Context) {
	app := l.d.Directory.AppByID(l.id.App)
	l.mu.Lock()
	homeless := l.homeless && app != nil
	l.mu.Unlock()
	if !homeless {
		return
	}
	s, err := l.d.setupOf(ctx, app)
	if err != nil {
		l.d.warn("moving push jobs", err)
		return
	}
	whole := true
	if slices.ContainsFunc(s.credentials, func(c chat.PushCredential) bool { return c.Provider == l.id.Provider }) {
		whole = l.rows(ctx, func(page []store.PushJob) bool {
			for i := range page {
				j := &page[i]
				var to *chat.PushDevice
				if to, err = l.d.Store.PushDevice(ctx, app.ID, j.User, j.Device); err != nil {
					return false
				}
				if to == nil {
					continue
				}
				c := s.credential(to)
				if c == nil || laneOf(app.ID, c, to) == l.id {
					continue
				}
				l.mu.Lock()
				if k := keyOf(j); l.mineLocked(k) {
					l.inHand[k] = struct{}{}
					l.moveLocked(j, laneOf(app.ID, c, to))
				}
				l.mu.Unlock()
			}
			return true
		})
	}
	l.mu.Lock()
	// What is under way may be put back.
	l.homeless = l.homeless && (!whole || err != nil || len(l.inHand) > 0)
	l.mu.Unlock()
}

// attempt tries to get a batch to the provider. It may be the one by which a lane that
// is closed sees whether it goes.
func (l *lane) attempt(ctx context.Context, at *seat, batch []store.PushJob, probe bool) {
	asked := true
	defer func() {
		l.mu.Lock()
		l.flight--
		if probe {
			l.probing = false
			if !asked {
				l.probeAt = l.now() // it has not told whether the provider is there: the next one may
			}
		}
		l.mu.Unlock()
	}()
	began := l.beginning()
	notes := make([]*push.Notification, 0, len(batch))
	index := make([]int, 0, len(batch))
	for i := range batch {
		j := &batch[i]
		n, end, err := l.compose(ctx, j)
		var instead *store.PushJob
		if end != nil && j.Held > 0 && othersLeft(end.Class) {
			instead, err = l.heldBy(ctx, j)
		}
		switch {
		case err != nil:
			if ctx.Err() == nil {
				l.d.warn("composing a notification", err)
			}
			// The older it is the longer it waits: it may be its own trouble.
			now := l.now()
			l.put(j, j, now.Add(min(max(now.Sub(time.UnixMilli(j.MadeAt))/8, time.Second), time.Minute)))
		case instead != nil:
			l.replace(j, end, instead)
			asked = false
		case end != nil:
			l.settle(j, end)
			asked = false
		case n.lane != l.id:
			l.mu.Lock()
			l.freeLocked(j)
			l.moveLocked(j, n.lane)
			l.mu.Unlock()
			asked = false
		default:
			notes, index = append(notes, &n.Notification), append(index, i)
		}
	}
	if len(notes) == 0 {
		return
	}
	asked = true
	start := time.Now()
	results := l.send(ctx, at, notes)
	took := time.Since(start)
	l.d.metrics.request(l, took, len(notes))
	l.mu.Lock()
	if results[0].Class == push.Accepted {
		l.quick.took(took, start)
	}
	wider := l.opening.width > 0 && slices.ContainsFunc(results, takes) && l.opening.took(began.spell, l.mostLocked())
	l.mu.Unlock()
	if wider {
		l.nudge()
	}
	for k, i := range index {
		l.result(ctx, began, &batch[i], notes[k], results[k])
	}
}

// compose is that of the dispatcher. A panic is the notification's trouble, or the
// server would go down for it after each start.
func (l *lane) compose(ctx context.Context, j *store.PushJob) (n *composed, end *store.PushOutcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.panicked(p)
			end = &store.PushOutcome{Class: push.PayloadBad.String(), Code: panicCode}
		}
	}()
	return l.d.compose(ctx, j)
}

// send has the adapter send. Where that panics, each is sent by itself, and is over if
// that panics too.
func (l *lane) send(ctx context.Context, at *seat, notes []*push.Notification) (list []push.Attempt) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		l.panicked(p)
		if list = nil; len(notes) == 1 {
			list = []push.Attempt{{Result: push.Result{Class: push.PayloadBad, Code: panicCode}}}
			return
		}
		for i := range notes {
			list = append(list, l.send(ctx, at, notes[i:i+1])...)
		}
	}()
	if list = at.Send(ctx, notes); len(list) != len(notes) {
		panic(fmt.Sprintf("%d answers for %d notifications", len(list), len(notes)))
	}
	return list
}

const panicCode = "panic"

func (l *lane) panicked(p any) {
	l.d.Logger.Error("push: a notification panicked", "lane", l.name(), "panic", p, "stack", string(debug.Stack()))
}

// A beginning tells later whether others got through meanwhile, and whether the lane
// was narrowed.
type beginning struct{ successes, spell uint64 }

func (l *lane) beginning() beginning {
	l.mu.Lock()
	defer l.mu.Unlock()
	return beginning{l.successes, l.opening.spell}
}

// result does what follows from an attempt.
func (l *lane) result(ctx context.Context, began beginning, j *store.PushJob, n *push.Notification, a push.Attempt) {
	now := l.now()
	a.Code = keptCode(a.Code, n.To.Token)
	l.d.metrics.result(l, j, &a, now)
	out := &store.PushOutcome{
		Class: a.Class.String(), Code: a.Code, ID: a.ID, Token: chat.ShortToken(n.To.Token), Cut: uint8(a.Cut),
	}
	next := *j
	next.Code = a.Code
	if a.Class != push.Accepted && a.Without != 0 && push.Option(next.Without)&a.Without == 0 && next.Attempts < maxAttempts-1 {
		// It may be good without: whatever the class says holds if it is not.
		l.reached()
		next.Without |= uint8(a.Without)
		next.Attempts++
		l.put(j, &next, now)
		return
	}
	switch a.Class {
	case push.Accepted:
		l.succeeded(ctx, now, began, n.To.Token)
		l.accepted(ctx, n, &a)
		l.finish(j, n, out)
	case push.TokenDead, push.TokenStrike:
		l.reached()
		l.suspect(ctx, now, n, &a)
		l.settle(j, out)
	case push.Retry:
		if ctx.Err() != nil {
			l.put(j, j, now) // the server stops: it is sent again, under the same names
			return
		}
		if l.failed(now, began) {
			next.Attempts++
		}
		if next.Attempts >= maxAttempts {
			l.settle(j, out)
			return
		}
		base := 10 * time.Second
		if !reachedProvider(a.Code) {
			base = time.Second
		}
		wait := min(base<<min(next.Attempts, 16), maxBackoff)
		l.put(j, &next, now.Add(max(a.After, rand.N(wait))))
	case push.RetryAfter:
		l.reached()
		if a.Device {
			next.Attempts++
			if next.Attempts >= maxAttempts {
				l.settle(j, out)
				return
			}
			l.put(j, &next, now.Add(max(a.After, time.Minute)))
			return
		}
		l.put(j, &next, l.rest(now, began, a.After))
	case push.AuthRefresh, push.ConfigHalt:
		alone := l.passed(began)
		l.stop(now, a.Code, 0)
		if !alone {
			l.put(j, &next, now)
			return
		}
		// Others got through meanwhile, and will have the lane go on: if it is this
		// one that is refused, it must not halt the lane for ever.
		if next.Attempts++; next.Attempts >= maxAttempts {
			l.settle(j, out)
			return
		}
		l.put(j, &next, now.Add(rand.N(min(10*time.Second<<next.Attempts, maxBackoff))))
	case push.QuotaDay:
		l.stop(now, a.Code, nextMidnight(now).UnixMilli())
		l.settle(j, out)
	default: // PayloadBad, UserCap
		l.reached()
		l.settle(j, out)
	}
}

// maxCode is more than any provider's codes have, in bytes.
const maxCode = 64

// keptCode is a code as it is stored and logged. What is in no table may be anything
// that somebody on the way has answered, the token itself not the least.
func keptCode(code, token string) string {
	if token != "" && strings.Contains(code, token) {
		code = strings.ReplaceAll(code, token, chat.ShortToken(token))
	}
	if len(code) > maxCode {
		code = push.Truncate(code, maxCode, push.Bytes)
	}
	return code
}

// reachedProvider reports whether the code of a failure is an answer.
func reachedProvider(code string) bool {
	switch code {
	case "transport", "timeout", "connect", "certificate", "address":
		return false
	}
	return true
}

// providersDay is where the days of those end that have quotas.
var providersDay = time.FixedZone("UTC+8", 8*60*60)

func nextMidnight(now time.Time) time.Time {
	y, m, d := now.In(providersDay).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, providersDay)
}

// succeeded notes that the provider has taken a notification for the token.
func (l *lane) succeeded(ctx context.Context, now time.Time, began beginning, token string) {
	l.mu.Lock()
	l.successes++
	l.lastGood = now
	l.gate.lives(token)
	l.failures = 0
	if began.spell == l.opening.spell {
		l.pauses = 0 // what was under way when it asked for a pause says nothing of it
	}
	guilty, spared := l.gate.good(now)
	halted := l.halt.Since != 0
	l.mu.Unlock()
	if len(guilty)+len(spared) > 0 {
		l.judge(ctx, guilty, spared)
	}
	if halted {
		l.resume()
	}
}

// passed reports whether others got through since.
func (l *lane) passed(began beginning) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.successes != began.successes
}

// reached notes that the provider is there and answers.
func (l *lane) reached() {
	l.mu.Lock()
	l.failures = 0
	l.mu.Unlock()
}

// failed counts an attempt that never got an answer worth having, and reports
// whether it was the notification's own trouble: others got through meanwhile. One
// that fails with all others is not held against it, or a provider that is down
// would cost notifications.
func (l *lane) failed(now time.Time, began beginning) (alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures++; l.failures == breakAfter {
		l.d.Logger.Warn("push: the provider does not answer", "lane", l.name())
		l.probeAt = now.Add(probePause)
		l.opening.narrow(2 * l.d.InFlight)
		l.releaseLocked()
	}
	return l.successes != began.successes
}

// rest has the lane wait, and gives until when.
func (l *lane) rest(now time.Time, began beginning, after time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if began.spell == l.opening.spell {
		l.opening.narrow(l.flight) // once for all that were under way
	}
	if after <= 0 {
		base := time.Second
		if l.id.Provider == chat.FCM {
			base = time.Minute
		}
		if !now.Before(l.pause) {
			l.pauses++
		}
		after = min(base<<min(max(l.pauses-1, 0), 16), maxBackoff)
	}
	if until := now.Add(after); until.After(l.pause) {
		l.pause = until
		l.releaseLocked()
	}
	return l.pause
}

// stop halts the lane, until a time (Unix ms) or until its credential is another.
func (l *lane) stop(now time.Time, code string, until int64) {
	l.mu.Lock()
	was := l.halt
	l.halt = store.PushHalt{Lane: l.id, Since: now.UnixMilli(), Until: until, Code: code}
	if was.Since != 0 {
		l.halt.Since = was.Since
	} else {
		l.probeAt = now.Add(pauseOf(&l.halt))
		l.opening.narrow(2 * l.d.InFlight)
	}
	h := l.halt
	l.releaseLocked()
	if was != h {
		l.d.settler.halted(&h)
	}
	l.mu.Unlock()
	if was != h {
		l.d.Logger.Error("push: the lane is halted", "lane", l.name(), "code", code)
	}
}

// doubted begins the codes of halts that are the gate's: it may be the tokens after all.
const doubted = "tokens: "

// pauseOf is the time between attempts while the lane is halted.
func pauseOf(h *store.PushHalt) time.Duration {
	if strings.HasPrefix(h.Code, doubted) {
		return doubtPause
	}
	return haltPause
}

// resume lets a halted lane go on.
func (l *lane) resume() {
	l.mu.Lock()
	l.halt, l.failures = store.PushHalt{}, 0
	l.gate = gate{}
	l.d.settler.halted(&store.PushHalt{Lane: l.id})
	l.mu.Unlock()
	l.d.Logger.Info("push: the lane goes on", "lane", l.name())
}

// releaseLocked lets go of what was read and is not under way: a lane that stands
// still may do so for long, and what comes first may be another then.
func (l *lane) releaseLocked() {
	drop := func(j *store.PushJob) {
		delete(l.inHand, keyOf(j))
		l.rewindLocked(j)
	}
	for p := range l.ready {
		for i := range l.ready[p] {
			drop(&l.ready[p][i])
		}
		for i := range l.freed[p] {
			drop(&l.freed[p][i])
		}
		l.freed[p], l.ready[p] = nil, nil
	}
	for _, q := range l.devices {
		for i := range q.jobs {
			drop(&q.jobs[i])
		}
		q.jobs = nil
	}
	l.next = [store.PushPriorities]int64{}
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

// accepted does what follows for the device.
func (l *lane) accepted(ctx context.Context, n *push.Notification, a *push.Attempt) {
	to := &n.To
	if to.Struck {
		// What was said of the token on other days was not its fault.
		if err := l.d.Store.ClearPushStrikes(ctx, l.id.App, to.Provider, to.Token, to.RegisteredAt); err != nil && !errors.Is(err, context.Canceled) {
			l.d.warn("clearing what was said of a push token", err)
		}
	}
	if a.Environment == chat.NoEnvironment || a.Environment == to.Environment {
		return
	}
	// The token's world was not known, or wrong: it is now.
	_, err := l.d.Store.MovePushToken(ctx, l.id.App, to.Provider, to.Token, to.RegisteredAt, to.Environment, a.Environment)
	if err != nil && !errors.Is(err, context.Canceled) {
		l.d.warn("correcting a push registration", err)
	}
}
