package dispatch

import (
	"strconv"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// underWay is how many notifications the providers have and have not answered for.
func (w *world) underWay() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.flight {
		n += k
	}
	return n
}

// A provider that has just come back, or has asked to be left alone, gets a few
// requests, and more as it answers them: never as many as wait, and all that may be
// under way without the clock having anything to do with it.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trouble push.Result
		batch   int
		halts   bool
		over    time.Duration // after which it is asked again
		first   int           // requests then
	}{
		"asked for a pause":            {push.Result{Class: push.RetryAfter, Code: "429", After: time.Minute}, 1, false, time.Minute, leastWide},
		"asked for one of a second":    {push.Result{Class: push.RetryAfter, Code: "429", After: time.Second}, 1, false, time.Second, leastWide},
		"asked for one of no length":   {push.Result{Class: push.RetryAfter, Code: "429"}, 1, false, time.Second, leastWide},
		"takes many at once":           {push.Result{Class: push.RetryAfter, Code: "429", After: time.Minute}, 10, false, time.Minute, 2 * leastWide},
		"was not there":                {push.Result{Class: push.Retry, Code: "connect"}, 1, false, maxBackoff, 1},
		"did not know the credentials": {push.Result{Class: push.ConfigHalt, Code: "10200"}, 1, true, haltPause, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			const all, most = 300, 24
			w.batch, w.d.InFlight = c.batch, most
			w.result(c.trouble)
			hang := make(chan struct{})
			w.hang = hang
			var jobs []store.PushJob
			for i := range all {
				user := "u" + strconv.Itoa(i)
				w.phone(user, chat.VIVO)
				jobs = append(jobs, w.job(w.message("x", user), 0, user, chat.VIVO, func(j *store.PushJob) { j.Priority = priorityMention }))
			}
			w.run()
			w.put(jobs...)
			l := w.lane(chat.VIVO)
			w.until("as many are under way as may be", func() bool { return w.underWay() == c.batch*most })
			close(hang)
			w.until("it is in trouble", func() bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.flight == 0 && (l.failures >= breakAfter || w.clock().Before(l.pause) || l.halt.Since != 0)
			})
			w.until("all is written", func() bool { return w.d.settler.behind() == 0 })
			hang = make(chan struct{})
			w.mu.Lock()
			w.hang = hang
			w.mu.Unlock()
			w.result(accepted)
			begun := len(w.sentTo(""))
			w.pass(c.over + time.Second)
			w.until("it is asked again", func() bool { return w.underWay() >= c.first })
			for range 20 {
				w.pass(time.Millisecond) // the lane looks whether there is more to do
				time.Sleep(time.Millisecond)
			}
			if n := w.underWay(); n != c.first {
				t.Fatalf("%d notifications at once, want %d", n, c.first)
			}
			if state := w.gathered()["lane_state VIVO"]; c.batch == 1 && !c.halts && c.first > 1 && state != laneSlow {
				t.Errorf("state %v", state)
			}
			if c.batch > 1 {
				close(hang)
				w.until("all are told", func() bool { return w.left(chat.VIVO) == 0 })
				return
			}
			// One answer after the other, and each leaves room for one more.
			for answered := 0; w.underWay() < most && answered < 10*most; {
				hang <- struct{}{}
				answered++
				w.until("it is answered", func() bool { return len(w.sentTo(""))-begun == answered })
				at := w.clock()
				want := min(leastWide+answered, most)
				if c.trouble.Class == push.RetryAfter && want > most/2 {
					want = most / 2 // from there it grows more slowly
				}
				w.until("there is more to do", func() bool { return w.underWay() >= want })
				if n := w.underWay(); n > leastWide+answered {
					t.Fatalf("%d at once after %d answers", n, answered)
				}
				if w.clock() != at {
					t.Fatal("the clock has moved")
				}
			}
			w.until("as many are under way as may be", func() bool { return w.underWay() == most })
			close(hang)
			w.until("all are told", func() bool { return w.left(chat.VIVO) == 0 })
		})
	}
}

// What was under way when the provider asked for a pause says nothing of what it
// takes afterwards.
func TestAnswersOfBefore(t *testing.T) {
	t.Parallel()
	var o opening
	if !o.fits(1000) {
		t.Fatal("a lane that never was in trouble is narrow")
	}
	before := o.spell
	o.narrow(40)
	for range 40 {
		if o.took(before, 64) {
			t.Fatal("it grew")
		}
	}
	widths := func(answers int) int {
		for range answers {
			o.took(o.spell, 64)
		}
		return o.width
	}
	for _, c := range []struct{ answers, want int }{
		{0, 2}, {1, 3}, {1, 4}, {16, 20}, {1, 20}, {18, 20}, {1, 21}, {21, 22}, {100_000, 0},
	} {
		if got := widths(c.answers); got != c.want {
			t.Fatalf("%d wide after %d more, want %d", got, c.answers, c.want)
		}
	}
}

// Who takes at the same time does not take more than the rate allows.
func TestRateOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.InFlight = 64
	w.batch = 10
	c := &chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "s", "rate": "20"}}
	l := newLane(w.d, store.PushLane{App: w.app.ID, Provider: chat.MEIZU})
	l.limiter = limiterOf(chat.MEIZU, c) // two at once, and one each 50 ms
	l.seat = &seat{Adapter: &scripted{w}}
	first, _ := l.reserve(w.clock(), false)
	second, nap := l.reserve(w.clock(), false)
	if first != 2 || second != 0 || nap <= 0 {
		t.Errorf("%d and %d are reserved, nap %s", first, second, nap)
	}
	l.limiter.SetLimit(0.001)
	jobs := []store.PushJob{w.job(chat.UID{1}, 0, "a", chat.MEIZU), w.job(chat.UID{1}, 1, "b", chat.MEIZU)}
	l.promised, l.flight, l.ready[priorityUsual] = 0, 0, jobs[:1]
	if batch, _ := l.takeReady(w.clock(), false); len(batch) != 1 || l.promised != 0 || l.flight != 1 {
		t.Errorf("%d taken, %d still promised, %d under way", len(batch), l.promised, l.flight)
	}
	if n, _ := l.reserve(w.clock(), false); n != 1 {
		t.Errorf("%d are reserved of what is left", n)
	}
}

// What closes a lane while somebody is about to take holds for them too.
func TestClosedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, closes := range map[string]func(*lane){
		"a pause":                func(l *lane) { l.rest(w.clock(), beginning{}, time.Minute) },
		"a breaker":              func(l *lane) { l.failures, l.probeAt = breakAfter, w.clock().Add(probePause) },
		"to be tried by another": func(l *lane) { l.failures = breakAfter },
		"a halt":                 func(l *lane) { l.stop(w.clock(), "10200", 0) },
		"a quota":                func(l *lane) { l.stop(w.clock(), "10070", nextMidnight(w.clock()).UnixMilli()) },
	} {
		l := newLane(w.d, store.PushLane{App: w.app.ID, Provider: chat.VIVO})
		l.seat = &seat{Adapter: &scripted{w}}
		if nap, one := l.closed(w.clock()); nap > 0 || one {
			t.Fatalf("%s: closed from the beginning", name)
		}
		closes(l)
		l.ready[priorityUsual] = []store.PushJob{w.job(chat.UID{1}, 0, "a", chat.VIVO)}
		if batch, nap := l.takeReady(w.clock(), false); len(batch) > 0 || nap <= 0 || l.flight != 0 {
			t.Errorf("%s: %d are taken all the same, nap %s", name, len(batch), nap)
		}
	}
}
