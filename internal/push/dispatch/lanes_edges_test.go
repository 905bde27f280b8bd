package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// readStore is a store that says when jobs were read, before whoever asked is told.
type readStore struct {
	Store
	mu   sync.Mutex
	read func(page []store.PushJob)
}

func (s *readStore) PushJobs(ctx context.Context, lane *store.PushLane, priority uint8, behind store.PushPlace, until int64, limit int) ([]store.PushJob, error) {
	page, err := s.Store.PushJobs(ctx, lane, priority, behind, until, limit)
	s.mu.Lock()
	f := s.read
	s.mu.Unlock()
	if f != nil && err == nil {
		f(page)
	}
	return page, err
}

// A job that is written while a page is read, at a place within that page, is not
// passed over.
func TestWrittenWhileReading(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	early := w.message("early", "bob")
	late := w.message("late", "carol")
	w.pass(time.Minute)
	var once sync.Once
	disk := &readStore{Store: w.store}
	disk.read = func(page []store.PushJob) {
		if len(page) > 0 {
			once.Do(func() {
				w.put(w.job(early, 0, "bob", chat.VIVO, func(j *store.PushJob) { j.Due -= 30_000 }))
			})
		}
	}
	w.d.Store = disk
	w.put(w.job(late, 0, "carol", chat.VIVO))
	w.run()
	w.ends(late, "accepted")
	w.until("the one that was written meanwhile is told", func() bool {
		w.pass(time.Millisecond)
		return w.outcome(early).Class == "accepted"
	})
}

// A call does not wait for what was read before it.
func TestCallGoesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.InFlight = 1
	var jobs []store.PushJob
	for i := range 900 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		jobs = append(jobs, w.job(w.message("x", user), 0, user, chat.VIVO))
	}
	w.phone("bob", chat.VIVO)
	hang := make(chan struct{})
	w.hang = hang
	w.put(jobs[:800]...)
	w.run()
	w.until("one is under way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.flight) == 1
	})
	call := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Priority = priorityCall })
	w.mu.Lock()
	w.hang = nil
	w.mu.Unlock()
	close(hang)
	w.ends(call, "accepted")
	for i, s := range w.sentTo("") {
		if s.user == "bob" && i > 50 {
			t.Errorf("the call was sent after %d others", i)
		}
	}
}

// When the day of a quota is over, jobs are not dropped for it any more.
func TestQuotaIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.result(push.Result{Class: push.QuotaDay, Code: "10070"})
	w.ends(w.one("bob", chat.VIVO), "quota_day")
	w.result(push.Result{Class: push.RetryAfter, Code: "429", After: time.Hour})
	w.pass(24 * time.Hour)
	w.phone("bob", chat.VIVO)
	uid := w.one("bob", chat.VIVO)
	w.until("it is put back", func() bool { return len(w.sentTo("bob")) == 2 && idleHand(w.lane(chat.VIVO)) })
	for range 5 {
		w.pass(sweepPause)
		time.Sleep(5 * time.Millisecond)
	}
	w.result(accepted)
	w.pass(time.Hour)
	w.ends(uid, "accepted")
}

// A halted lane that has nothing to send for the job that it tries tries another.
func TestTriesWhatCanBeSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
	gone := w.one("nobody", chat.VIVO)
	w.ends(gone, "gone")
	bob := w.one("bob", chat.VIVO)
	w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "10200" && idleHand(w.lane(chat.VIVO)) })
	var uids []chat.UID
	for i := range 5 {
		uids = append(uids, w.one("nobody", chat.VIVO, func(j *store.PushJob) { j.Due -= int64(1000 + i) }))
	}
	w.result(accepted)
	w.pass(haltPause + time.Second)
	for _, uid := range uids {
		w.ends(uid, "gone")
	}
	w.ends(bob, "accepted")
}

// A clock that is put back stops nothing.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.pass(-time.Hour)
	w.ends(w.one("carol", chat.VIVO), "accepted")
	// What is told of slowly is no storm.
	for range 2 * stormAfter {
		w.ends(w.one("bob", chat.VIVO), "accepted")
		w.pass(2 * stormWindow)
	}
	w.pass(2 * time.Hour)
	w.ends(w.one("bob", chat.VIVO), "accepted")

}

// Of those with one collapse id the newest message is what counts, and not the one
// that is due last.
func TestCollapseAfterRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	older, newer := w.message("older", "bob"), w.message("newer", "bob")
	w.put(
		w.job(older, 0, "bob", chat.VIVO, func(j *store.PushJob) { j.Collapse, j.Attempts, j.Due = 7, 1, j.Due+1000 }),
		w.job(newer, 0, "bob", chat.VIVO, func(j *store.PushJob) { j.Collapse = 7 }),
	)
	w.pass(time.Minute)
	w.run()
	w.ends(newer, "accepted")
	w.ends(older, "collapsed")
}

// What a lane counts is mended when nothing is left.
func TestCountIsMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	l := w.lane(chat.VIVO)
	l.mu.Lock()
	l.waiting[priorityUsual], l.waiting[priorityCall] = 7, -3
	l.mu.Unlock()
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.until("nothing is counted", func() bool {
		w.pass(time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.waiting == [store.PushPriorities]int{}
	})
}

// However much expires in a lane that stands still, little of it is in memory.
func TestSweepsWhatCanBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.Queue = 100_000
	const many = maxUnsettled + 5*pageSize
	ref := w.message("x", "bob")
	for range many / pageSize {
		var jobs []store.PushJob
		for i := range pageSize {
			jobs = append(jobs, w.job(ref, 0, fmt.Sprint("u", i), chat.VIVO, func(j *store.PushJob) { j.Expires = j.Due + 1 }))
		}
		w.put(jobs...)
		w.pass(time.Millisecond)
	}
	w.pass(time.Second)
	disk := &slowDisk{w.store, make(chan struct{})}
	write := sync.OnceFunc(func() { close(disk.stuck) })
	t.Cleanup(write)
	w.d.Store, w.d.settler.store = disk, disk
	l := w.lane(chat.VIVO)
	l.halt = store.PushHalt{Lane: l.id, Since: w.clock().UnixMilli(), Code: "10200"}
	l.probeAt = w.clock().Add(time.Hour)
	w.run()
	w.until("as many are taken as may be", func() bool { return w.d.settler.behind() >= maxUnsettled })
	for range 10 {
		w.pass(sweepPause)
		time.Sleep(5 * time.Millisecond)
	}
	if n := w.d.settler.behind(); n > maxUnsettled+pageSize {
		t.Errorf("%d are in memory", n)
	}
	write()
	w.until("all have ended", func() bool {
		w.pass(time.Second)
		return w.left(chat.VIVO) == 0
	})
}

// What panics while it is sent costs one notification, and neither the server nor
// those that were to be sent with it.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.batch = 10
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "u3" {
			panic("a bug")
		}
		return push.Attempt{Result: accepted}
	})
	var jobs []store.PushJob
	var uids []chat.UID
	for i := range 8 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		uids = append(uids, w.message("x", user))
		jobs = append(jobs, w.job(uids[i], 0, user, chat.VIVO))
	}
	w.put(jobs...)
	w.run()
	for i, uid := range uids {
		w.ends(uid, map[bool]string{false: "accepted", true: "payload_bad"}[i == 3])
	}
}

// When a credential takes the place of one of another package, what waited for that
// one goes to it.
func TestMovesFromWhatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := &chat.PushCredential{Provider: chat.VIVO, Package: "com.example.app", Fields: map[string]string{"appId": "2", "appKey": "k", "appSecret": "s"}}
	if err := w.dir.SetPushCredential(t.Context(), w.app, own, true); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.phone("bob", chat.VIVO)
	w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
	lane := store.PushLane{App: w.app.ID, Provider: chat.VIVO, Package: own.Package}
	l := w.d.lanes.lane(lane)
	uid := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Lane = lane })
	w.until("it waits", func() bool { return len(w.sentTo("bob")) == 1 && idleHand(l) })
	w.result(accepted)
	if err := w.dir.RemovePushCredential(t.Context(), w.app, own); err != nil {
		t.Fatal(err)
	}
	w.pass(sweepPause)
	w.ends(uid, "accepted")
}

// A quota that was used up on a day that is not to come yet, since the clock was
// wrong, is over with the day that it is.
func TestQuotaOfAWrongDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.pass(300 * 24 * time.Hour)
	w.result(push.Result{Class: push.QuotaDay, Code: "10070"})
	w.ends(w.one("bob", chat.VIVO), "quota_day")
	w.result(accepted)
	w.pass(-300 * 24 * time.Hour)
	w.ends(w.one("bob", chat.VIVO), "accepted")
}

// How long the provider had asked to be left alone is over with the credential that it
// was said of.
func TestPauseOfAnotherCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.result(push.Result{Class: push.RetryAfter, Code: "429", After: time.Hour})
	first := w.one("bob", chat.VIVO)
	w.until("the lane waits", func() bool { return len(w.sentTo("bob")) == 1 && idleHand(w.lane(chat.VIVO)) })
	w.result(accepted)
	w.pass(time.Second)
	w.credential(chat.VIVO)
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.pass(time.Hour)
	w.ends(first, "accepted")
}

// What waits for one device in thousands keeps nobody waiting who comes before it.
func TestOneSlowDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.Queue = 100_000
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	hang := make(chan struct{})
	w.hang = hang
	ref := w.message("x", "bob")
	w.pass(time.Hour)
	var jobs []store.PushJob
	for i := range 5 * pageSize {
		jobs = append(jobs, w.job(ref, 0, "bob", chat.VIVO, func(j *store.PushJob) {
			j.Due, j.Silent, j.Priority = j.Due-int64(i), true, prioritySilent
		}))
	}
	w.put(jobs...)
	w.run()
	l := w.lane(chat.VIVO)
	w.until("as many are in hand as may be", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.inHand) >= 4*pageSize
	})
	w.mu.Lock()
	w.hang = nil
	w.mu.Unlock()
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.ends(w.one("carol", chat.VIVO, func(j *store.PushJob) { j.Priority = priorityMention }), "accepted")
}

// A lane that has had nothing to do for long does not end before it is written what
// came of the last: another would send that again.
func TestEndsOnceAllIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	disk := &slowDisk{w.store, make(chan struct{})}
	write := sync.OnceFunc(func() { close(disk.stuck) })
	t.Cleanup(write)
	w.d.Store, w.d.settler.store = disk, disk
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.run()
	bob := w.one("bob", chat.VIVO)
	w.until("it is sent", func() bool { return len(w.sentTo("bob")) == 1 })
	for range 20 {
		w.pass(laneIdle)
		time.Sleep(2 * time.Millisecond)
	}
	w.phone("carol", chat.VIVO)
	w.one("carol", chat.VIVO)
	w.until("another is sent", func() bool { return len(w.sentTo("carol")) == 1 })
	write()
	w.ends(bob, "accepted")
	if n := len(w.sentTo("bob")); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// What was under way when a breaker opened is not what tries whether it goes: one
// request at a time does.
func TestOneTries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hang := make(chan struct{})
	w.hang = hang
	var jobs []store.PushJob
	for i := range breakAfter + 5 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		jobs = append(jobs, w.job(w.message("x", user), 0, user, chat.VIVO))
	}
	w.result(push.Result{Class: push.Retry, Code: "connect"})
	w.run()
	w.put(jobs[:breakAfter+1]...)
	w.until("all are under way", func() bool { return w.underWay() == breakAfter+1 })
	for range breakAfter {
		hang <- struct{}{}
	}
	l := w.lane(chat.VIVO)
	state := func() (flight int, probing bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.flight, l.probing
	}
	w.until("the breaker is open", func() bool { n, _ := state(); return n == 1 })
	other := make(chan struct{})
	w.mu.Lock()
	w.hang = other
	w.mu.Unlock()
	w.put(jobs[breakAfter+1:]...)
	w.pass(probePause + time.Second)
	w.until("one tries", func() bool { n, probing := state(); return n == 2 && probing })
	hang <- struct{}{} // the last of those from before
	w.until("it is alone", func() bool { n, _ := state(); return n == 1 })
	if _, probing := state(); !probing {
		t.Error("another took itself for the one that tries")
	}
	close(other)
}

// What has the provider refuse the credentials while all others get through is given
// up in the end: it must not halt the lane again and again.
func TestHaltsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.run()
	l := w.lane(chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "carol" {
			return push.Attempt{Result: accepted}
		}
		l.mu.Lock()
		l.successes++ // another got through meanwhile
		l.mu.Unlock()
		return push.Attempt{Result: push.Result{Class: push.ConfigHalt, Code: "DeviceTokenNotForTopic"}}
	})
	// However long that takes here, it does not expire.
	bob := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Expires += 1000 * 24 * time.Hour.Milliseconds() })
	for i := range maxAttempts {
		w.until("it is tried again", func() bool {
			if w.halted(chat.VIVO) != "" {
				w.one("carol", chat.VIVO) // who has the lane go on
			}
			w.pass(haltPause)
			return len(w.sentTo("bob")) > i
		})
	}
	w.until("it is given up", func() bool { return w.outcome(bob).Class != "" })
	if o := w.outcome(bob); o.Class != "config_halt" || o.Attempts != maxAttempts {
		t.Errorf("%+v", o)
	}
}

// failing is a store that cannot read some users' registrations.
type failing struct {
	Store
	errs map[string]error
	mu   sync.Mutex
	read map[string]int
}

func (s *failing) PushDevice(ctx context.Context, app chat.AppID, user, id string) (*chat.PushDevice, error) {
	s.mu.Lock()
	s.read[user]++
	s.mu.Unlock()
	if err := s.errs[user]; err != nil {
		return nil, err
	}
	return s.Store.PushDevice(ctx, app, user, id)
}

// What cannot be read of one notification costs that one, and is not asked for all
// the time.
func TestCannotBeComposed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	disk := &failing{Store: w.store, errs: map[string]error{"bob": store.ErrRow, "carol": errors.New("the disk")}, read: map[string]int{}}
	w.d.Store = disk
	w.run()
	for _, user := range []string{"bob", "carol", "dave"} {
		w.phone(user, chat.VIVO)
	}
	bob, carol, dave := w.one("bob", chat.VIVO), w.one("carol", chat.VIVO), w.one("dave", chat.VIVO)
	w.ends(dave, "accepted")
	if o := w.ends(bob, "payload_bad"); o.Code != "row" {
		t.Errorf("%+v", o)
	}
	for range 3600 {
		w.pass(time.Second)
		w.until("nothing is due", func() bool { return w.quiet(chat.VIVO) })
	}
	disk.mu.Lock()
	n := disk.read["carol"]
	disk.errs = nil
	disk.mu.Unlock()
	if n < 60 || n > 150 {
		t.Errorf("it was tried %d times in an hour", n)
	}
	w.pass(time.Minute)
	w.ends(carol, "accepted")
}

// What was put by a clock that was wrong by days is told when it is right again, and
// not in days.
func TestDueInDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("carol", chat.VIVO)
	w.phone("bob", chat.VIVO)
	w.pass(30 * 24 * time.Hour)
	bob := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.MadeAt = j.Due })
	w.pass(-30 * 24 * time.Hour)
	w.run()
	w.ends(bob, "accepted")
	later := w.one("carol", chat.VIVO, func(j *store.PushJob) { j.Due += time.Hour.Milliseconds() })
	w.ends(w.one("carol", chat.VIVO), "accepted")
	if c := w.outcome(later).Class; c != "" {
		t.Errorf("%s before it is due", c)
	}
	w.pass(time.Hour)
	w.ends(later, "accepted")
}
