package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

func TestAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	uid := w.one("bob", chat.VIVO)
	o := w.ends(uid, "accepted")
	if o.Attempts != 1 || o.Code != "200" || o.Provider != chat.VIVO || o.Token == "" || strings.Contains(o.Token, "bob@VIVO") {
		t.Errorf("outcome %+v", o)
	}
	if s := w.sentTo("bob"); len(s) != 1 || s[0].title != "alice" || s[0].body != "hello bob" {
		t.Errorf("sent %+v", s)
	}
	w.until("the job is gone", func() bool { return w.left(chat.VIVO) == 0 })
}

// Jobs that are due later wait for it, also over a restart.
func TestDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	uid := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Due += time.Hour.Milliseconds() })
	w.phone("carol", chat.VIVO)
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.crash()
	w.run()
	w.ends(w.one("carol", chat.VIVO), "accepted")
	if len(w.sentTo("bob")) != 0 {
		t.Fatal("it was not due")
	}
	w.pass(time.Hour)
	w.ends(uid, "accepted")
}

func TestRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	// Bob's is the only one that fails: it is its own trouble.
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "bob" {
			return push.Attempt{Result: push.Result{Class: push.Retry, Code: "500"}}
		}
		return push.Attempt{Result: accepted}
	})
	w.run()
	bob := w.one("bob", chat.VIVO)
	for i := 1; i <= maxAttempts; i++ {
		w.until("attempt "+strconv.Itoa(i), func() bool { return len(w.sentTo("bob")) >= i })
		// While it is under way others get through, or it would not count.
		w.until("it waits", func() bool {
			return w.outcome(bob).Class != "" || w.left(chat.VIVO) == 1 && idleHand(w.lane(chat.VIVO))
		})
		w.pass(maxBackoff)
	}
	// The attempts above were alone: nobody got through while they were made.
	if w.outcome(bob).Class != "" {
		t.Fatal("attempts counted though no other got through")
	}
}

// idleHand reports whether nothing is read or under way.
func idleHand(l *lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inHand) == 0
}

// What fails while others get through is given up in the end.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	w.run()
	l := w.lane(chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		l.mu.Lock()
		l.successes++ // another got through meanwhile
		l.mu.Unlock()
		return push.Attempt{Result: push.Result{Class: push.Retry, Code: "500"}}
	})
	bob := w.one("bob", chat.VIVO)
	w.until("an outcome", func() bool {
		w.pass(maxBackoff)
		return w.outcome(bob).Class != ""
	})
	if o := w.outcome(bob); o.Class != "retry" || o.Attempts != maxAttempts || len(w.sentTo("bob")) != maxAttempts {
		t.Errorf("%+v after %d", o, len(w.sentTo("bob")))
	}
}

// A provider that is down for hours costs nothing but time, and expired ones.
func TestDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.result(push.Result{Class: push.Retry, Code: "connect"})
	w.run()
	var uids []chat.UID
	for i := range 40 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		uids = append(uids, w.one(user, chat.VIVO))
	}
	short := w.one("u1", chat.VIVO, func(j *store.PushJob) { j.Priority, j.Expires = priorityCall, j.Due+60_000 })
	w.until("the breaker opens", func() bool {
		w.pass(time.Second)
		l := w.lane(chat.VIVO)
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failures >= breakAfter
	})
	asked := len(w.sentTo(""))
	for range 30 {
		w.pass(probePause)
		time.Sleep(2 * time.Millisecond)
	}
	w.ends(short, "expired")
	if n := len(w.sentTo("")) - asked; n > 31+w.d.InFlight {
		t.Errorf("%d attempts while the breaker was open", n)
	}
	w.result(accepted)
	w.until("all are told", func() bool {
		w.pass(probePause)
		return w.left(chat.VIVO) == 0
	})
	for _, uid := range uids {
		w.ends(uid, "accepted")
	}
}

// What has expired does not tell whether a provider is there again: another is tried
// in its place, however many of them there are.
func TestDownWithExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.result(push.Result{Class: push.Retry, Code: "connect"})
	w.run()
	var uids []chat.UID
	for i := range breakAfter {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		uids = append(uids, w.one(user, chat.VIVO))
	}
	w.until("the breaker opens", func() bool {
		l := w.lane(chat.VIVO)
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failures >= breakAfter && l.flight == 0
	})
	w.result(accepted)
	for range 20 {
		uids = append(uids, w.one("u0", chat.VIVO, func(j *store.PushJob) { j.Priority, j.Expires = priorityCall, j.Due+1000 }))
	}
	w.pass(probePause)
	w.until("all are done", func() bool { return w.left(chat.VIVO) == 0 })
	for i, uid := range uids {
		w.ends(uid, map[bool]string{true: "accepted", false: "expired"}[i < breakAfter])
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	for _, user := range []string{"bob", "carol"} {
		w.phone(user, chat.VIVO)
		w.phone(user, chat.MEIZU)
	}
	w.answers(func(n *push.Notification) push.Attempt {
		if n.To.Provider == chat.VIVO {
			return push.Attempt{Result: push.Result{Class: push.RetryAfter, Code: "429", After: 30 * time.Second}}
		}
		return push.Attempt{Result: accepted}
	})
	bob := w.one("bob", chat.VIVO)
	w.until("it was asked", func() bool { return len(w.sentTo("bob")) == 1 && idleHand(w.lane(chat.VIVO)) })
	carol := w.one("carol", chat.VIVO)
	other := w.one("carol", chat.MEIZU)
	w.ends(other, "accepted") // another lane goes on
	w.result(accepted)
	w.pass(29 * time.Second)
	time.Sleep(20 * time.Millisecond)
	if w.outcome(carol).Class != "" {
		t.Error("the lane did not wait")
	}
	w.pass(2 * time.Second)
	w.ends(bob, "accepted")
	w.ends(carol, "accepted")
}

// A device that has had too much waits alone.
func TestRetryAfterOfDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "bob" {
			return push.Attempt{Result: push.Result{Class: push.RetryAfter, Code: "429", Device: true}}
		}
		return push.Attempt{Result: accepted}
	})
	bob := w.one("bob", chat.VIVO)
	w.until("it was asked", func() bool { return len(w.sentTo("bob")) == 1 })
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.result(accepted)
	w.until("it is put back", func() bool { return idleHand(w.lane(chat.VIVO)) })
	w.pass(2 * time.Minute)
	w.ends(bob, "accepted")
}

func TestHalt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("bob", chat.MEIZU)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.To.Provider == chat.VIVO {
			return push.Attempt{Result: push.Result{Class: push.ConfigHalt, Code: "10200"}}
		}
		return push.Attempt{Result: accepted}
	})
	bob := w.one("bob", chat.VIVO)
	w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "10200" && idleHand(w.lane(chat.VIVO)) })
	w.ends(w.one("bob", chat.MEIZU), "accepted")
	w.crash()
	w.run()
	w.until("it still is", func() bool { return w.halted(chat.VIVO) == "10200" })
	w.pass(time.Minute)
	time.Sleep(20 * time.Millisecond)
	if n := len(w.sentTo("bob")); n != 2 {
		t.Fatalf("%d attempts at a halted lane", n)
	}

	t.Run("other credential", func(t *testing.T) {
		w.result(accepted)
		w.credential(chat.VIVO)
		w.ends(bob, "accepted")
		if w.halted(chat.VIVO) != "" {
			t.Error("still halted")
		}
	})

	t.Run("one is tried", func(t *testing.T) {
		w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
		one, two := w.one("bob", chat.VIVO), w.one("bob", chat.VIVO)
		w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "10200" && idleHand(w.lane(chat.VIVO)) })
		w.result(accepted)
		w.pass(haltPause + time.Second)
		w.ends(one, "accepted")
		w.ends(two, "accepted")
	})

	t.Run("expires", func(t *testing.T) {
		w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
		one := w.one("bob", chat.VIVO)
		w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "10200" && idleHand(w.lane(chat.VIVO)) })
		n := len(w.sentTo("bob"))
		for range 20 {
			w.pass(75 * time.Minute)
			time.Sleep(2 * time.Millisecond)
		}
		w.ends(one, "expired")
		w.until("the row is gone", func() bool { return w.left(chat.VIVO) == 0 })
		if len(w.sentTo("bob")) > n+20 {
			t.Error("it was tried all the time")
		}
	})
}

func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // 20:00 in UTC+8
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.result(push.Result{Class: push.QuotaDay, Code: "10070"})
	w.ends(w.one("bob", chat.VIVO), "quota_day")
	late := w.one("carol", chat.VIVO)
	w.until("it is given up", func() bool {
		w.pass(sweepPause)
		return w.outcome(late).Class == "quota_day"
	})
	if n := len(w.sentTo("")); n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.result(accepted)
	w.pass(4 * time.Hour)
	w.ends(w.one("carol", chat.VIVO), "accepted")
	if w.halted(chat.VIVO) != "" {
		t.Error("still halted")
	}
}

// Notifications of a device come one after the other, in order.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var jobs []store.PushJob
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	for i := range 60 {
		user := []string{"bob", "carol"}[i%2]
		ref := w.message(strconv.Itoa(i), user)
		jobs = append(jobs, w.job(ref, 0, user, chat.VIVO, func(j *store.PushJob) { j.Priority = priorityMention }))
	}
	w.run()
	w.put(jobs...)
	w.until("all are told", func() bool { return len(w.sentTo("")) == 60 })
	if w.overlap {
		t.Error("two at once to one device")
	}
	for _, user := range []string{"bob", "carol"} {
		if s := w.sentTo(user); !slices.IsSortedFunc(s, func(a, b sent) int { return strings.Compare(a.uid, b.uid) }) {
			t.Errorf("%s is told out of order", user)
		}
	}
}

// Calls come before all others, silent ones last.
func TestPriorities(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.InFlight = 1
	var jobs []store.PushJob
	for p := range uint8(store.PushPriorities) {
		for i := range 5 {
			user := fmt.Sprint("u", store.PushPriorities-1-p, i)
			w.phone(user, chat.VIVO)
			ref := w.message("x", user)
			jobs = append(jobs, w.job(ref, 0, user, chat.VIVO, func(j *store.PushJob) { j.Priority = store.PushPriorities - 1 - p }))
		}
	}
	w.put(jobs...)
	w.run()
	w.until("all are told", func() bool { return len(w.sentTo("")) == len(jobs) })
	var order []string
	for _, s := range w.sentTo("") {
		order = append(order, s.user[:2])
	}
	if !slices.IsSorted(order) {
		t.Errorf("order %v", order)
	}
}

// Of those with one collapse id the newest is enough.
func TestCollapse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	var uids []chat.UID
	var jobs []store.PushJob
	for range 4 {
		ref := w.message("score", "bob")
		uids = append(uids, ref)
		jobs = append(jobs, w.job(ref, 0, "bob", chat.VIVO, func(j *store.PushJob) { j.Collapse = 7 }))
	}
	w.put(jobs...)
	w.run()
	for _, uid := range uids[:3] {
		w.ends(uid, "collapsed")
	}
	w.ends(uids[3], "accepted")
	if n := len(w.sentTo("bob")); n != 1 {
		t.Errorf("%d were sent", n)
	}
}

// What has become pointless while it waited is not told.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	gone := w.one("carol", chat.VIVO)
	reached := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Offset = 1 })
	w.cursors["bob"] = []push.Cursor{{Platform: "ios", Offset: 1}}
	expired := w.one("bob", chat.VIVO, func(j *store.PushJob) { j.Expires = j.Due + 1000 })
	read := w.message("read", "bob")
	recalled := w.message("recalled", "bob")
	for _, a := range []*store.Append{
		{
			Message: &chat.Message{App: w.app.ID, From: "bob", ChannelType: chat.Direct},
			Views: []store.ViewChange{{
				Channel: store.ChannelRef{App: w.app.ID, Owner: "bob", Type: chat.Direct, Channel: "alice"}, View: &chat.View{ReadUpTo: read, ReadAt: 1},
			}},
		},
		{
			Message: &chat.Message{App: w.app.ID, From: "alice", ChannelType: chat.Direct},
			Marks: []store.MarkChange{{
				Channel: store.ChannelRef{App: w.app.ID, Owner: "bob", Type: chat.Direct, Channel: "alice"}, UID: recalled, Mark: store.MarkRecalled,
			}},
		},
	} {
		if err := w.store.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	w.put(w.job(read, 0, "bob", chat.VIVO), w.job(recalled, 0, "bob", chat.VIVO))
	w.pass(10 * time.Second)
	w.run()
	w.ends(gone, "gone")
	w.ends(expired, "expired")
	w.ends(read, "read")
	w.ends(recalled, "recalled")
	if len(w.sentTo("")) > 1 {
		t.Errorf("sent %+v", w.sentTo(""))
	}
	w.until("reached", func() bool { c := w.outcome(reached).Class; return c == "reached" || c == "read" })
}

// What the provider refuses of a notification is left out, once.
func TestWithout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.Without&push.OptionImage == 0 {
			return push.Attempt{Result: push.Result{Class: push.PayloadBad, Code: "image", Without: push.OptionImage}}
		}
		return push.Attempt{Result: accepted}
	})
	uid := w.one("bob", chat.VIVO)
	w.until("it is tried again", func() bool {
		w.pass(time.Millisecond)
		return len(w.sentTo("bob")) == 2
	})
	if o := w.ends(uid, "accepted"); o.Attempts != 2 {
		t.Errorf("%+v", o)
	}
	w.result(push.Result{Class: push.PayloadBad, Code: "image", Without: push.OptionImage})
	uid = w.one("bob", chat.VIVO)
	w.until("it is tried again", func() bool {
		w.pass(time.Millisecond)
		return len(w.sentTo("bob")) == 4
	})
	if o := w.ends(uid, "payload_bad"); o.Attempts != 2 {
		t.Errorf("%+v", o)
	}
}

// A lane that is full takes no more, but calls.
func TestFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.Queue = 100
	w.phone("bob", chat.VIVO)
	ref := w.message("x", "bob")
	var jobs []store.PushJob
	for i := range 120 {
		jobs = append(jobs, w.job(ref, i, "bob", chat.VIVO))
	}
	w.put(jobs...)
	if n := w.left(chat.VIVO); n != 90 {
		t.Errorf("%d wait", n)
	}
	w.ends(ref.Plus(119), "shed")
	jobs = nil
	for i := range 20 {
		jobs = append(jobs, w.job(ref, 200+i, "bob", chat.VIVO, func(j *store.PushJob) { j.Priority = priorityCall }))
	}
	w.put(jobs...)
	if n := w.left(chat.VIVO); n != 100 {
		t.Errorf("%d wait", n)
	}
}

// What was sent when the power went is sent again under the same name, and
// nothing is lost.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hang = make(chan struct{})
	w.run()
	var uids []chat.UID
	for i := range 30 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		uids = append(uids, w.one(user, chat.VIVO))
	}
	w.until("some are under way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.flight) == w.d.InFlight
	})
	w.crash()
	w.mu.Lock()
	clear(w.flight)
	w.hang = nil
	w.mu.Unlock()
	w.run()
	for _, uid := range uids {
		w.ends(uid, "accepted")
	}
	names := map[string]bool{}
	for _, s := range w.sentTo("") {
		names[s.request] = true
	}
	if len(names) != 30 {
		t.Errorf("%d names for 30 notifications", len(names))
	}
}

// A lane that hangs holds nobody else up.
func TestIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.MEIZU)
	hang := make(chan struct{})
	w.hang = hang
	slow := w.one("bob", chat.VIVO)
	w.until("it is under way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.flight["bob@VIVO"] == 1
	})
	w.mu.Lock()
	w.hang = nil
	w.mu.Unlock()
	for range 4 {
		w.ends(w.one("carol", chat.MEIZU), "accepted")
	}
	close(hang)
	w.ends(slow, "accepted")
}

// Browsers of several makers are notified with one credential, and yet one push
// service that is down or refuses holds up nobody else's browsers. What mends the
// credential mends it for all of them.
func TestPushServices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.credential(chat.WEB)
	w.run()
	browser := func(user string, service chat.PushEnvironment) func(*store.PushJob) {
		w.phone(user, chat.WEB)
		d := &chat.PushDevice{ID: chat.WEB.String(), Provider: chat.WEB, Token: user, Environment: service, RegisteredAt: w.clock().UnixMilli()}
		if err := w.store.PutPushDevice(t.Context(), w.app.ID, user, d); err != nil {
			t.Fatal(err)
		}
		lane := laneOf(w.app.ID, &chat.PushCredential{Provider: chat.WEB}, d)
		return func(j *store.PushJob) { j.Lane = lane }
	}
	google, mozilla := browser("gus", chat.WebGoogle), browser("moz", chat.WebMozilla)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "gus" {
			return push.Attempt{Result: push.Result{Class: push.ConfigHalt, Code: "405"}}
		}
		return push.Attempt{Result: accepted}
	})
	waits := w.one("gus", chat.WEB, google)
	w.until("the lane is halted", func() bool { return len(w.sentTo("gus")) == 1 })
	for range 4 {
		w.ends(w.one("moz", chat.WEB, mozilla), "accepted")
	}
	if c := w.outcome(waits).Class; c != "" {
		t.Fatalf("%s", c)
	}
	// A browser that moves to another service has its notification moved too.
	moved := browser("gus", chat.WebMozilla)
	w.pass(time.Second)
	w.result(accepted)
	w.ends(w.one("gus", chat.WEB, moved), "accepted")
	if list, err := w.d.CheckAll(t.Context(), w.app, func(c *chat.PushCredential) bool { return c.Provider == chat.WEB }); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	w.ends(waits, "accepted")
}

// A changed credential is used at once, and the old adapter let go of.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.pass(time.Second)
	w.credential(chat.VIVO)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.until("the old one is closed", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.closed == 1
	})
	if err := w.dir.RemovePushCredential(t.Context(), w.app, &chat.PushCredential{Provider: chat.VIVO}); err != nil {
		t.Fatal(err)
	}
	uid := w.one("bob", chat.VIVO)
	w.pass(time.Second)
	time.Sleep(20 * time.Millisecond)
	if c := w.outcome(uid).Class; c != "" {
		t.Fatalf("%s without a credential", c)
	}
	w.credential(chat.VIVO)
	w.ends(uid, "accepted")
}

// Adapters that take many at once are given many.
func TestBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.batch = 50
	var jobs []store.PushJob
	var uids []chat.UID
	for i := range 120 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		ref := w.message("x", user)
		uids = append(uids, ref)
		jobs = append(jobs, w.job(ref, 0, user, chat.VIVO))
	}
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "u7" {
			return push.Attempt{Result: push.Result{Class: push.PayloadBad, Code: "x"}}
		}
		return push.Attempt{Result: accepted}
	})
	w.put(jobs...)
	w.run()
	for i, uid := range uids {
		w.ends(uid, map[bool]string{false: "accepted", true: "payload_bad"}[i == 7])
	}
}

// A lane without jobs ends, and comes back with the next one.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.until("the lane has ended", func() bool {
		w.pass(laneIdle)
		w.d.lanes.mu.Lock()
		defer w.d.lanes.mu.Unlock()
		return len(w.d.lanes.all) == 0
	})
	w.ends(w.one("bob", chat.VIVO), "accepted")
}

// slowDisk is a store whose disk takes as long as the test wants.
type slowDisk struct {
	Store
	stuck chan struct{}
}

func (s *slowDisk) ChangePush(ctx context.Context, c *store.PushChange) error {
	if c.Sync && len(c.Drop) > 0 {
		<-s.stuck
	}
	return s.Store.ChangePush(ctx, c)
}

// What a crash has sent again is what was under way, and what came of which was not
// written yet: both together are not more than may be under way, however slowly the
// disk writes.
func TestUntold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	disk := &slowDisk{w.store, make(chan struct{})}
	w.d.Store, w.d.settler.store = disk, disk
	var jobs []store.PushJob
	for i := range 100 {
		user := "u" + strconv.Itoa(i)
		w.phone(user, chat.VIVO)
		jobs = append(jobs, w.job(w.message("x", user), 0, user, chat.VIVO))
	}
	w.put(jobs...)
	w.run()
	w.until("as many are sent as may be", func() bool { return len(w.sentTo("")) >= w.d.InFlight })
	for range 20 {
		w.pass(time.Millisecond) // the lane looks whether there is more to do
		time.Sleep(time.Millisecond)
	}
	if n := len(w.sentTo("")); n != w.d.InFlight {
		t.Errorf("%d were sent while nothing could be written", n)
	}
	close(disk.stuck)
	w.until("all are told", func() bool { return w.left(chat.VIVO) == 0 })
	if n := len(w.sentTo("")); n != len(jobs) {
		t.Errorf("%d were sent of %d", n, len(jobs))
	}
}

// As many requests are under way as it takes: few where the provider is quick and
// little waits.
func TestMost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.d.InFlight = 256
	for _, c := range []struct {
		waiting int
		took    []time.Duration // one after the other, a second apart
		want    int
	}{
		{0, nil, steadyLeast},
		{0, []time.Duration{time.Millisecond}, steadyLeast},
		{0, []time.Duration{100 * time.Millisecond}, 100},
		{0, []time.Duration{100 * time.Millisecond, time.Second, time.Second}, 100},
		{0, []time.Duration{time.Second, 100 * time.Millisecond}, 100},
		{0, []time.Duration{5 * time.Second}, 256},
		{20_000, []time.Duration{time.Millisecond}, 100},
		{2_000_000, nil, 256},
		// What was long ago does not count.
		{0, slices.Repeat([]time.Duration{200 * time.Millisecond}, 12), 200},
		{0, append([]time.Duration{time.Millisecond}, slices.Repeat([]time.Duration{200 * time.Millisecond}, 12)...), 200},
	} {
		l := newLane(w.d, store.PushLane{Provider: chat.VIVO})
		l.waiting[priorityUsual] = c.waiting
		for i, d := range c.took {
			l.quick.took(d, w.clock().Add(time.Duration(i)*time.Second))
		}
		if got := l.mostLocked(); got != c.want {
			t.Errorf("%d waiting, requests took %v: %d under way, want %d", c.waiting, c.took, got, c.want)
		}
	}
}
