package dispatch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// Whatever a provider says, tokens go only while it takes others.
func TestGate(t *testing.T) {
	t.Parallel()
	dead := push.Result{Class: push.TokenDead, Code: "410"}
	oneDead := func(t *testing.T) *world {
		t.Helper()
		w := newWorld(t)
		w.run()
		w.phone("bob", chat.VIVO)
		w.phone("carol", chat.VIVO)
		w.answers(func(n *push.Notification) push.Attempt {
			if n.User == "bob" {
				return push.Attempt{Result: dead}
			}
			return push.Attempt{Result: accepted}
		})
		w.ends(w.one("bob", chat.VIVO), "token_dead")
		return w
	}
	fill := func(w *world, n int) (uids []chat.UID) {
		var jobs []store.PushJob
		for i := range n {
			user := "u" + strconv.Itoa(i)
			w.phone(user, chat.VIVO)
			ref := w.message("hello", user)
			uids = append(uids, ref)
			jobs = append(jobs, w.job(ref, 0, user, chat.VIVO))
		}
		w.put(jobs...)
		return uids
	}
	alive := func(w *world, n int) (alive int) {
		for i := range n {
			if w.hasPhone("u" + strconv.Itoa(i)) {
				alive++
			}
		}
		return alive
	}

	t.Run("all dead", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.result(dead)
		w.run()
		fill(w, 300)
		w.until("the lane is halted", func() bool { return strings.HasPrefix(w.halted(chat.VIVO), "tokens") && idleHand(w.lane(chat.VIVO)) })
		if n := alive(w, 300); n != 300 {
			t.Errorf("%d tokens are left of 300", n)
		}
		if n := len(w.sentTo("")); n > gateFew+2*w.d.InFlight {
			t.Errorf("%d were sent", n)
		}
	})

	t.Run("all dead from now on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.run()
		w.phone("bob", chat.VIVO)
		for range 3 {
			w.ends(w.one("bob", chat.VIVO), "accepted")
			w.pass(time.Minute)
		}
		w.result(dead)
		fill(w, 300)
		w.until("the lane is halted", func() bool { return strings.HasPrefix(w.halted(chat.VIVO), "tokens") && idleHand(w.lane(chat.VIVO)) })
		if n := alive(w, 300); n != 300 {
			t.Errorf("%d tokens are left of 300", n)
		}
	})

	t.Run("one dead", func(t *testing.T) {
		t.Parallel()
		w := oneDead(t)
		if !w.hasPhone("bob") {
			t.Fatal("it went before another was taken")
		}
		w.ends(w.one("carol", chat.VIVO), "accepted")
		w.until("the token is gone", func() bool { return !w.hasPhone("bob") })
		if !w.hasPhone("carol") {
			t.Error("the wrong one went")
		}
	})

	t.Run("registered again", func(t *testing.T) {
		t.Parallel()
		w := oneDead(t)
		w.pass(time.Second)
		w.phone("bob", chat.VIVO)
		w.ends(w.one("carol", chat.VIVO), "accepted")
		w.ends(w.one("carol", chat.VIVO), "accepted")
		if !w.hasPhone("bob") {
			t.Error("the token went though it was registered again")
		}
	})

	t.Run("dead before it was registered", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.run()
		w.phone("bob", chat.VIVO)
		w.phone("carol", chat.VIVO)
		since := w.clock().Add(-time.Hour).UnixMilli()
		w.answers(func(n *push.Notification) push.Attempt {
			if n.User == "bob" {
				return push.Attempt{Result: push.Result{Class: push.TokenDead, Code: "410", Since: since}}
			}
			return push.Attempt{Result: accepted}
		})
		w.ends(w.one("bob", chat.VIVO), "token_dead")
		w.ends(w.one("carol", chat.VIVO), "accepted")
		w.ends(w.one("carol", chat.VIVO), "accepted")
		if !w.hasPhone("bob") {
			t.Error("the token went")
		}
	})

	t.Run("too many", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.run()
		w.phone("bob", chat.VIVO)
		for range 3 {
			w.ends(w.one("bob", chat.VIVO), "accepted")
		}
		// One of two is dead: that many cannot be.
		w.answers(func(n *push.Notification) push.Attempt {
			if i, _ := strconv.Atoi(strings.TrimPrefix(n.User, "u")); i%2 == 0 {
				return push.Attempt{Result: dead}
			}
			return push.Attempt{Result: accepted}
		})
		uids := fill(w, 200)
		for _, uid := range uids {
			w.until("an outcome", func() bool { return w.outcome(uid).Class != "" })
		}
		if n := alive(w, 200); n < 170 {
			t.Errorf("%d tokens are left of 200", n)
		}
	})

	t.Run("strikes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.run()
		w.phone("bob", chat.VIVO)
		w.phone("carol", chat.VIVO)
		w.answers(func(n *push.Notification) push.Attempt {
			if n.User == "bob" {
				return push.Attempt{Result: push.Result{Class: push.TokenStrike, Code: "2"}}
			}
			return push.Attempt{Result: accepted}
		})
		for day := range chat.PushStrikes {
			if !w.hasPhone("bob") {
				t.Fatalf("it went on day %d", day)
			}
			for range []int{3, 3, 1}[day] {
				w.ends(w.one("bob", chat.VIVO), "token_strike")
				w.ends(w.one("carol", chat.VIVO), "accepted")
			}
			w.pass(24 * time.Hour)
		}
		w.until("the token is gone", func() bool { return !w.hasPhone("bob") })
	})
}

// One device whose token is dead says nothing of the others, however often it is
// asked.
func TestOneDeadToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User == "bob" {
			return push.Attempt{Result: push.Result{Class: push.TokenDead, Code: "10302"}}
		}
		return push.Attempt{Result: accepted}
	})
	for range 2 * gateFew {
		w.ends(w.one("bob", chat.VIVO), "token_dead")
	}
	if code := w.halted(chat.VIVO); code != "" {
		t.Fatalf("halted by one token: %s", code)
	}
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.until("the token is deleted", func() bool { return !w.hasPhone("bob") })
}

// Tokens that look dead by chance stop a small app for a moment only.
func TestDeadInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("carol", chat.VIVO)
	w.answers(func(n *push.Notification) push.Attempt {
		if n.User != "carol" {
			return push.Attempt{Result: push.Result{Class: push.TokenDead, Code: "10302"}}
		}
		return push.Attempt{Result: accepted}
	})
	for i := range gateFew {
		user := fmt.Sprint("u", i)
		w.phone(user, chat.VIVO)
		w.ends(w.one(user, chat.VIVO), "token_dead")
	}
	w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) != "" })
	uid := w.one("carol", chat.VIVO, func(j *store.PushJob) { j.Priority, j.Expires = priorityCall, j.Due+60_000 })
	w.crash()
	w.run()
	w.until("it still is", func() bool { return w.halted(chat.VIVO) != "" })
	w.pass(doubtPause + time.Second)
	w.ends(uid, "accepted")
	w.until("it goes on", func() bool { return w.halted(chat.VIVO) == "" })
}
