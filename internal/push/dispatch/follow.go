package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	followBatch   = 256                   // records read at a time
	followTick    = 50 * time.Millisecond // between looks at what is not old enough yet
	followBackoff = 5 * time.Second
	// followStint is how long the follower works without a rest, and restFactor how
	// many times as long it rests, while others send. Deciding is never urgent, and
	// whoever sends waits for the answer.
	followStint = 20 * time.Millisecond
	restFactor  = 3
	// maxBehind is how far behind its grace the follower may be until it rests no
	// more.
	maxBehind = 30 * time.Second
	// maxJobs and maxReasons are how much is gathered before it is written.
	maxJobs    = 4000
	maxReasons = 64 << 10
	// markEvery is how often the watermark is written while there is nothing else
	// to write: what was passed without a word is passed again at little cost.
	markEvery = time.Second
	// looksTogether is how many looks are read at a time.
	looksTogether = 64
)

// A follower decides upon what was accepted, record by record of the log, and what
// is due to be looked at again. It is of one goroutine.
type follower struct {
	d     *Dispatcher
	epoch string // of the store

	known    bool
	settled  uint64 // the record up to which all is in change, or written
	marked   uint64 // the watermark as it is written
	markedAt time.Time
	waiting  []store.LogRecord // behind settled: read, and not old enough or not come to yet
	lookAt   int64             // Unix ms: when the first look is due; math.MaxInt64 for none

	tide tide

	change  store.PushChange
	reasons int // how many are in change
	// unshown are the channels of which change takes back what is shown, and up to
	// where.
	unshown map[store.ChannelRef]chat.UID

	metKnown bool
	met      chat.UID         // the newest broadcast that has had its pass begun
	passes   []store.PushPass // under way

	scratch scratch
}

func newFollower(d *Dispatcher) *follower { return &follower{d: d, epoch: d.Store.Epoch()} }

// follow decides upon what was accepted, record by record of the log.
func (d *Dispatcher) follow(ctx context.Context) {
	pause := time.Duration(0)
	for f := newFollower(d); ctx.Err() == nil; {
		err := f.step(ctx)
		if err == nil || ctx.Err() != nil {
			pause = 0
			continue
		}
		// What is not written is decided upon again. Full jitter, as all who follow
		// the log have it.
		f = newFollower(d)
		pause = min(max(2*pause, 100*time.Millisecond), followBackoff)
		d.Logger.Error("deciding whom to notify failed and will be tried again", "error", err)
		nap(ctx, rand.N(pause))
	}
}

func nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// step does what is to be done now, for about a stint, or waits until there may be
// something.
func (f *follower) step(ctx context.Context) (err error) {
	if !f.known {
		if f.settled, err = f.d.Store.Watermark(ctx, store.PushConsumer); err != nil {
			return err
		}
		f.marked, f.known = f.settled, true
	}
	// How long it works is measured on the real clock: it is about the processor.
	began, head := time.Now(), f.d.Store.LogHead()
	if err := f.meet(ctx); err != nil {
		return err
	}
	looked, err := f.looks(ctx)
	if err != nil {
		return err
	}
	passed, err := f.records(ctx, began)
	if err != nil {
		return err
	}
	came, err := f.pass(ctx)
	if err != nil {
		return err
	}
	if err := f.write(ctx, time.Since(f.markedAt) >= markEvery); err != nil {
		return err
	}
	if !looked && !passed && !came {
		return f.wait(ctx)
	}
	if f.d.Store.LogHead() != head && f.behind() < maxBehind {
		nap(ctx, restFactor*time.Since(began))
	}
	return nil
}

// behind is how long ago the first record that waits was old enough.
func (f *follower) behind() time.Duration {
	if len(f.waiting) == 0 {
		return 0
	}
	return f.d.Now().Sub(f.due(&f.waiting[0]))
}

// due is when the record is old enough to be decided upon.
func (f *follower) due(r *store.LogRecord) time.Time { return time.UnixMilli(r.At).Add(f.d.Grace) }

// wait returns when there may be something to do, in a moment at the latest if
// something waits for its time: the clock that counts need not be the machine's.
func (f *follower) wait(ctx context.Context) error {
	if len(f.waiting) > 0 {
		nap(ctx, followTick)
		return nil
	}
	tick := castTick
	if f.lookAt != math.MaxInt64 || f.settled != f.marked || len(f.passes) > 0 {
		tick = followTick
	}
	until, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	if err := f.d.Store.WaitLog(until, f.settled); err != nil && until.Err() == nil {
		return err
	}
	return nil
}

// old reports whether the record is as old as the grace is long. Times of the log never
// go back, so when the clock is put back by an hour, all that comes within that hour
// seems to be of its end: that is told by how far the log had come.
func (f *follower) old(r *store.LogRecord) bool {
	now := f.d.Now()
	f.tide.turn(now, f.d.Store.LogHead(), f.d.Grace)
	return !f.due(r).After(now) || r.At > now.UnixMilli() && f.tide.over(r.Seq, now, f.d.Grace)
}

// A tide is how far the log had come at two times: at least one of them is the grace
// ago, and at most twice of it.
type tide struct {
	older, newer struct {
		seq uint64
		at  time.Time
	}
}

func (t *tide) turn(now time.Time, head uint64, grace time.Duration) {
	age := now.Sub(t.newer.at)
	if age >= 0 && age < grace && !t.newer.at.IsZero() {
		return
	}
	if t.older = t.newer; age < 0 {
		t.older.seq = 0 // of another clock
	}
	t.newer.seq, t.newer.at = head, now
}

// over reports whether the record was there so long ago.
func (t *tide) over(seq uint64, now time.Time, grace time.Duration) bool {
	return seq <= t.older.seq && now.Sub(t.older.at) >= grace || seq <= t.newer.seq && now.Sub(t.newer.at) >= grace
}

// records passes those that are old enough, for as long as a stint lasts, and
// reports whether there were any.
func (f *follower) records(ctx context.Context, began time.Time) (passed bool, err error) {
	for {
		if len(f.waiting) == 0 {
			if f.waiting, err = f.d.Store.ReadLog(ctx, f.settled, followBatch); err != nil {
				return passed, err
			}
		}
		f.d.deciding.tell(f.waiting, f.lookAt)
		if len(f.waiting) == 0 || !f.old(&f.waiting[0]) {
			return passed, nil
		}
		if passed && time.Since(began) >= followStint {
			return passed, nil
		}
		r := &f.waiting[0]
		for _, ref := range r.Refs {
			if _, err := f.alone(ctx, ref.UID, func() error { return f.request(ctx, r, ref) }); err != nil {
				return passed, err
			}
			if err := f.writeFull(ctx); err != nil {
				return passed, err
			}
		}
		f.settled, f.waiting, passed = r.Seq, f.waiting[1:], true
	}
}

// looks decides for good upon who was given more time, and reports whether there
// was anybody.
func (f *follower) looks(ctx context.Context) (looked bool, err error) {
	for {
		now := f.d.Now()
		until := now.UnixMilli()
		if f.lookAt != math.MaxInt64 && f.lookAt > now.Add(f.d.Patience).UnixMilli() {
			until = f.lookAt // the clock was put back since: no look is due so late
		}
		if until < f.lookAt {
			return looked, nil
		}
		list, err := f.d.Store.PushLooks(ctx, until, looksTogether)
		if err != nil {
			return looked, err
		}
		for i := range list {
			if _, err := f.alone(ctx, list[i].Ref, func() error { return f.lookAgain(ctx, &list[i]) }); err != nil {
				return looked, err
			}
			f.change.Looked = append(f.change.Looked, list[i])
			if err := f.writeFull(ctx); err != nil {
				return looked, err
			}
		}
		// Looks are read again, so those that were done must be gone.
		if err := f.write(ctx, false); err != nil {
			return looked, err
		}
		looked = looked || len(list) > 0
		f.lookAt = math.MaxInt64
		if next, err := f.d.Store.PushLooks(ctx, math.MaxInt64, 1); err != nil {
			return looked, err
		} else if len(next) > 0 {
			f.lookAt = next[0].Due
		}
		if looked {
			return looked, nil // records have their turn
		}
	}
}

// writeFull writes what has gathered if it is much. The watermark stays behind the
// record that is being passed.
func (f *follower) writeFull(ctx context.Context) error {
	if len(f.change.Put) < maxJobs && f.reasons < maxReasons {
		return nil
	}
	return f.write(ctx, true)
}

// write writes what has gathered, together with how far the log was passed. Where
// nothing has, that alone is written only if mark says so.
func (f *follower) write(ctx context.Context, mark bool) error {
	c := &f.change
	if len(c.Put)+len(c.Look)+len(c.Looked)+len(c.Reasons)+len(c.Passes) == 0 && c.Met.IsZero() && !(mark && f.settled != f.marked) {
		return nil
	}
	for i := range c.Look {
		f.lookAt = min(f.lookAt, c.Look[i].Due)
	}
	c.Watermark = f.settled
	if err := f.d.write(ctx, c); err != nil {
		return err
	}
	f.marked, f.markedAt = f.settled, time.Now()
	f.reasons = 0
	for ch, uid := range f.unshown {
		f.d.settler.unshown(ch, uid)
	}
	clear(f.unshown)
	clear(c.Put)
	*c = store.PushChange{Put: c.Put[:0]}
	return nil
}

// alone decides upon one request. Where what is stored of it cannot be read, or that
// panics, it costs this one and nobody else: it is passed over, or all that comes
// behind it, of all apps, would wait for ever. It reports whether it was done.
func (f *follower) alone(ctx context.Context, ref chat.UID, decide func() error) (done bool, err error) {
	c := &f.change
	put, look, reasons := len(c.Put), len(c.Look), len(c.Reasons)
	cause, err := safely(decide)
	if err == nil || ctx.Err() != nil || !errors.Is(err, errPanic) && !errors.Is(err, store.ErrRow) {
		return err == nil, err
	}
	f.d.deciding.passedOver.Inc()
	f.d.Logger.Error("push: a message cannot be decided upon and is passed over", "message", ref.String(), "error", err, "cause", cause)
	// Nobody is told of half of it, but for what was written in between.
	c.Put, c.Look, c.Reasons = c.Put[:min(put, len(c.Put))], c.Look[:min(look, len(c.Look))], c.Reasons[:min(reasons, len(c.Reasons))]
	return false, nil
}

var errPanic = errors.New("panic")

// safely calls f. A panic is an error, and cause says where it was.
func safely(f func() error) (cause string, err error) {
	defer func() {
		if p := recover(); p != nil {
			cause, err = string(debug.Stack()), fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return "", f()
}

// A request is one that is being decided upon.
type request struct {
	app    *chat.App
	rules  push.Rules
	setup  *setup
	ref    chat.UID
	send   *push.Send
	effect push.Effect
	given  []store.Target
	due    int64 // Unix ms: when its jobs are
	final  bool  // nobody is given more time
	// notified: it recalls what its recipient was notified of.
	notified bool
}

// request decides upon one request of a record. One that notifies nobody, whoever
// it was given to, leaves nothing behind.
func (f *follower) request(ctx context.Context, r *store.LogRecord, ref store.Ref) error {
	q, err := f.open(ctx, ref.App, ref.UID)
	if err != nil || q == nil {
		return err
	}
	q.due = min(f.due(r).UnixMilli(), f.d.Now().UnixMilli())
	switch {
	case q.effect != push.None:
		return f.decide(ctx, q, nil)
	case q.send.Type() == push.Recall:
		return f.muteRecall(ctx, q)
	}
	return f.seen(ctx, q)
}

// lookAgain decides upon those of a request who were given more time.
func (f *follower) lookAgain(ctx context.Context, l *store.PushLook) error {
	q, err := f.open(ctx, l.App, l.Ref)
	if err != nil {
		return err
	}
	if q == nil || q.effect == push.None {
		return f.offMeanwhile(ctx, l)
	}
	q.due, q.final = min(l.Due, f.d.Now().UnixMilli()), true
	if n := len(l.Targets); n > 0 && l.Targets[n-1] >= len(q.given) {
		return fmt.Errorf("%w: a look at target %d of %d", store.ErrRow, l.Targets[n-1], len(q.given))
	}
	return f.decide(ctx, q, l.Targets)
}

// offMeanwhile tells those who were given more time that their app cannot push any
// more, or they would be undecided upon for good.
func (f *follower) offMeanwhile(ctx context.Context, l *store.PushLook) error {
	if len(l.Targets) == 0 {
		return nil
	}
	given, err := f.d.Store.Given(ctx, l.Ref)
	if chat.KindOf(err) == chat.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	places := slices.DeleteFunc(slices.Clone(l.Targets), func(at int) bool { return at >= len(given) })
	reasons := make([]uint8, len(places))
	for i := range reasons {
		reasons[i] = uint8(push.ReasonOff)
		f.d.deciding.recipient(push.None, push.ReasonOff)
	}
	f.change.Reasons = append(f.change.Reasons, store.PushReasonsOf{Ref: l.Ref, Count: len(given), Targets: places, Reasons: reasons})
	f.reasons += len(reasons)
	return nil
}

// pushing is a request of an app that can push; of others it is nil.
func (d *Dispatcher) pushing(ctx context.Context, id chat.AppID) (*request, error) {
	app := d.Directory.AppByID(id)
	if app == nil {
		return nil, nil
	}
	q := &request{app: app, rules: push.RulesOf(&app.Settings)}
	if !q.rules.Enabled {
		return nil, nil
	}
	var err error
	if q.setup, err = d.setupOf(ctx, app); err != nil || len(q.setup.credentials) == 0 {
		return nil, err
	}
	return q, nil
}

// open reads a request, as far as it may notify anybody; otherwise it is nil, or,
// where it may take notifications back, without an effect.
func (f *follower) open(ctx context.Context, id chat.AppID, ref chat.UID) (*request, error) {
	q, err := f.d.pushing(ctx, id)
	if err != nil || q == nil {
		return nil, err
	}
	q.ref = ref
	m, err := f.d.Store.Message(ctx, ref)
	if chat.KindOf(err) == chat.KindNotFound {
		return nil, nil // expired before we came by
	}
	if err != nil {
		return nil, err
	}
	q.send = push.NewSend(m)
	var reason push.Reason
	if q.effect, reason = q.send.Decide(&q.rules); q.effect == push.None {
		f.d.deciding.message(reason)
		if m.Event == nil || !q.app.Settings.PushWithdraw {
			return nil, nil
		}
		return q, nil
	}
	if q.given, err = f.d.Store.Given(ctx, ref); chat.KindOf(err) == chat.KindNotFound {
		return nil, nil
	}
	return q, err
}
