package dispatch

import (
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// storm has bob notified of so many messages after those that are told one by one,
// and gives these: they are held.
func (w *world) storm(n int, change ...func(*store.PushJob)) (held []chat.UID) {
	w.t.Helper()
	for i := range stormAfter + n {
		ref := w.message("hello "+string(rune('a'+i)), "bob")
		offset, err := w.store.Head(w.t.Context(), w.app.ID, "bob")
		if err != nil {
			w.t.Fatal(err)
		}
		w.put(w.job(ref, 0, "bob", chat.VIVO, append(change, func(j *store.PushJob) { j.Offset = offset })...))
		if i >= stormAfter {
			held = append(held, ref)
		}
	}
	w.until("they are held", func() bool {
		return w.left(chat.VIVO) == min(n, 1) && w.quiet(chat.VIVO) && len(w.sentTo("bob")) == stormAfter
	})
	return held
}

// takeOff takes messages off bob's channel without a word, as a recall does that
// notifies nobody.
func (w *world) takeOff(m store.Mark, uids ...chat.UID) {
	w.t.Helper()
	for _, uid := range uids {
		if err := w.store.Append(w.t.Context(), &store.Append{
			Message: &chat.Message{App: w.app.ID, From: "alice", ChannelType: chat.Direct}, Marks: []store.MarkChange{w.mark(uid, m)},
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// What stands for a storm is told though its own message is not to be told any more,
// as that of the newest of those that are left, and says how many these are.
func TestHeldByOneThatIsGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held  int
		gone  []int // of those that are held
		mark  store.Mark
		class string
		told  int // which of them in the end; -1 for none
		body  string
		crash bool
	}{
		"the newest":            {4, []int{3}, store.MarkRecalled, "recalled", 2, "3 new messages", false},
		"the newest, and crash": {4, []int{3}, store.MarkRecalled, "recalled", 2, "3 new messages", true},
		"the newest two":        {4, []int{2, 3}, store.MarkRecalled, "recalled", 1, "2 new messages", false},
		"all but one":           {3, []int{1, 2}, store.MarkRecalled, "recalled", 0, "hello f", false},
		"all of them":           {3, []int{0, 1, 2}, store.MarkRecalled, "recalled", -1, "", false},
		"the only one":          {1, []int{0}, store.MarkRecalled, "recalled", -1, "", false},
		"read elsewhere":        {4, []int{3}, store.MarkRead, "read", 2, "3 new messages", false},
		"thrown away":           {4, []int{3}, store.MarkHidden, "read", 2, "3 new messages", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run()
			w.phone("bob", chat.VIVO)
			uids := w.storm(c.held)
			for _, i := range c.gone {
				w.takeOff(c.mark, uids[i])
			}
			if c.crash {
				w.crash()
				w.run()
			}
			w.pass(summaryPause + time.Second)
			w.ends(uids[c.held-1], c.class)
			w.until("nothing is left", func() bool { return w.left(chat.VIVO) == 0 && w.quiet(chat.VIVO) })
			list := w.sentTo("bob")[stormAfter:]
			if c.told < 0 {
				if len(list) > 0 {
					t.Errorf("sent %+v", list)
				}
				return
			}
			if len(list) != 1 || list[0].uid != uids[c.told].String() || list[0].body != c.body {
				t.Errorf("sent %+v, want %q of %s", list, c.body, uids[c.told])
			}
			w.ends(uids[c.told], "accepted")
			for i := range c.told {
				w.ends(uids[i], "coalesced")
			}
			l := w.lane(chat.VIVO)
			l.mu.Lock()
			defer l.mu.Unlock()
			if n := l.allLocked(); n != 0 {
				t.Errorf("%d are counted", n)
			}
		})
	}
}

// What comes while one takes the place of another is told of a minute later, as in any
// storm.
func TestStormGoesOnWhenOneIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	uids := w.storm(3)
	w.takeOff(store.MarkRecalled, uids[2])
	w.pass(summaryPause + time.Second)
	w.until("the one before it is told", func() bool { return w.outcome(uids[1]).Class == "accepted" })
	next := w.one("bob", chat.VIVO)
	w.until("it is held", func() bool { return w.left(chat.VIVO) == 1 && w.quiet(chat.VIVO) })
	w.pass(summaryPause + time.Second)
	w.ends(next, "accepted")
	if n := len(w.sentTo("bob")); n != stormAfter+2 {
		t.Errorf("%d were sent", n)
	}
}

// What lives for a minute only is told in a storm too, a little before it expires, and
// never more often than twice a minute.
func TestShortLivedStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	short := func(j *store.PushJob) { j.Expires = j.Due + 57_000 } // the grace is over
	uids := w.storm(3, short)
	w.pass(summaryPause - 14*time.Second)
	if n := len(w.sentTo("bob")); n != stormAfter {
		t.Fatalf("%d were sent", n)
	}
	w.pass(2 * time.Second)
	w.ends(uids[2], "accepted")
	if list := w.sentTo("bob"); len(list) != stormAfter+1 || list[stormAfter].body != "3 new messages" {
		t.Errorf("sent %+v", list[stormAfter:])
	}
	// Those that are almost expired when they come are told twice a minute at most.
	from := w.clock()
	for range 120 {
		w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Expires = j.Due + 12_000 })
		w.pass(time.Second)
		w.until("it is taken", func() bool { return w.quiet(chat.VIVO) })
	}
	var at []time.Duration
	for _, s := range w.sentTo("bob")[stormAfter+1:] {
		at = append(at, s.at.Sub(from))
	}
	if len(at) < 2 || len(at) > 4 || !slices.IsSorted(at) {
		t.Errorf("told after %v", at)
	}
}

// A clock that is put back holds a storm for no longer than a minute.
func TestStormAndClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.pass(24 * time.Hour)
	w.phone("bob", chat.VIVO)
	w.storm(2)
	w.pass(-time.Hour)
	next := w.one("bob", chat.VIVO)
	w.until("it is held", func() bool { return w.quiet(chat.VIVO) })
	w.pass(summaryPause + time.Second)
	w.ends(next, "accepted")
	if list := w.sentTo("bob"); list[len(list)-1].body != "3 new messages" {
		t.Errorf("sent %+v", list[stormAfter:])
	}
}

// A storm becomes a few notifications and a summary a minute. Calls go through.
func TestStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	var last chat.UID
	var all []chat.UID
	for range 100 {
		last = w.one("bob", chat.VIVO)
		all = append(all, last)
	}
	call := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Priority = priorityCall })
	w.ends(call, "accepted")
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.until("the rest is held", func() bool { return w.left(chat.VIVO) == 1 && idleHand(w.lane(chat.VIVO)) })
	if n := len(w.sentTo("bob")); n != stormAfter+1 {
		t.Errorf("%d were sent", n)
	}
	if s := "carried over"; true {
		// What is held survives a crash.
		w.crash()
		w.run()
		w.pass(summaryPause + time.Second)
		w.ends(last, "accepted")
		list := w.sentTo("bob")
		if got := list[len(list)-1]; got.body != "95 new messages" || got.title != "alice" {
			t.Errorf("%s: %+v", s, got)
		}
	}
	n := map[string]int{}
	for _, uid := range all {
		n[w.outcome(uid).Class]++
	}
	if n["accepted"] != stormAfter+1 || n["coalesced"] != 100-stormAfter-1 {
		t.Errorf("outcomes %v", n)
	}
	w.pass(2 * summaryPause)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	if list := w.sentTo("bob"); list[len(list)-1].body != "hello bob" {
		t.Error("the storm is not over")
	}
}

// What did not get through is no storm.
func TestNoStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.result(push.Result{Class: push.Retry, Code: "connect"})
	w.run()
	w.phone("bob", chat.VIVO)
	var uids []chat.UID
	for range stormAfter {
		uids = append(uids, w.one("bob", chat.VIVO))
	}
	w.until("each was tried", func() bool {
		w.pass(time.Second)
		return len(w.sentTo("bob")) > 2*stormAfter
	})
	w.result(accepted)
	for _, uid := range uids {
		w.until("told", func() bool {
			w.pass(time.Second)
			return w.outcome(uid).Class == "accepted"
		})
	}
}

// A storm that goes on is a summary a minute.
func TestLongStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	for range 200 {
		w.one("bob", chat.VIVO)
		w.pass(time.Second)
		w.until("it is taken", func() bool { return w.quiet(chat.VIVO) })
	}
	if n := len(w.sentTo("bob")); n < stormAfter+2 || n > stormAfter+4 {
		t.Errorf("%d notifications for 200 messages in 200 seconds", n)
	}
}

// What stands for a storm and has expired in a halted lane has ended once.
func TestHeldAndExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	for range stormAfter {
		w.ends(w.one("bob", chat.VIVO), "accepted")
	}
	short := func(j *store.PushJob) { j.Expires = j.Due + 90_000 }
	one := w.one("bob", chat.VIVO, short)
	w.until("it is held", func() bool { return w.quiet(chat.VIVO) && w.left(chat.VIVO) == 1 })
	l := w.lane(chat.VIVO)
	l.stop(w.clock(), "10200", 0)
	w.until("it has expired", func() bool {
		w.pass(sweepPause)
		return w.outcome(one).Class == "expired"
	})
	w.until("that is written", func() bool { return idleHand(l) })
	l.resume()
	next := w.one("bob", chat.VIVO)
	w.ends(next, "accepted")
	if c := w.outcome(one).Class; c != "expired" {
		t.Errorf("it ended twice, then as %s", c)
	}
	w.until("nothing is left", func() bool { return idleHand(l) })
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.allLocked(); n != 0 {
		t.Errorf("%d are counted", n)
	}
}
