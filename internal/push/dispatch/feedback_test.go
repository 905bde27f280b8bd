package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// A listing provider keeps a list of dead tokens.
type listing struct{ *scripted }

func (l *listing) Dead(context.Context) ([]string, error) { return l.w.dead() }

// A provider that keeps a list of dead tokens is asked for it once an hour, as long
// as it takes anything at all.
func TestFeedback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := 0
	var list []string
	var fails error
	w.dead = func() ([]string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		asked++
		return list, fails
	}
	said := func(tokens ...string) {
		w.mu.Lock()
		list = tokens
		w.mu.Unlock()
	}
	times := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return asked
	}
	w.run()
	for _, user := range []string{"bob", "carol", "dave", "eve"} {
		w.phone(user, chat.VIVO)
	}
	// hour lets an hour go by, while the lane has something to do.
	hour := func() {
		t.Helper()
		for range 14 {
			w.ends(w.one("eve", chat.VIVO), "accepted")
			w.pass(5 * time.Minute)
		}
		w.until("the lane has seen the time", func() bool { return w.quiet(chat.VIVO) })
		time.Sleep(20 * time.Millisecond) // nothing must happen, or all of it has
	}
	said("bob@VIVO", "nobody@VIVO")
	w.pass(time.Hour)
	time.Sleep(20 * time.Millisecond) // nothing must happen
	if n := times(); n != 0 {
		t.Fatalf("asked %d times by who has sent nothing", n)
	}
	hour()
	w.until("bob's token is gone", func() bool { return !w.hasPhone("bob") })
	first := times()
	if first < 1 || first > 2 || !w.hasPhone("carol") {
		t.Fatalf("asked %d times in the first hour; carol has a phone: %t", first, w.hasPhone("carol"))
	}

	// Who registers after it was asked keeps the token.
	w.mu.Lock()
	fails = errors.New("not now")
	w.mu.Unlock()
	hour()
	if n := times(); n <= first || n > first+2 || !w.hasPhone("carol") {
		t.Fatalf("asked %d times in two hours", n)
	}
	w.mu.Lock()
	fails = nil
	w.mu.Unlock()
	l := w.lane(chat.VIVO)
	earlier := w.clock()
	w.pass(time.Second)
	w.phone("dave", chat.VIVO)
	l.dropDead(t.Context(), []string{"carol@VIVO", "dave@VIVO"}, earlier)
	if w.hasPhone("carol") || !w.hasPhone("dave") {
		t.Error("it counts what was registered when the provider was asked")
	}
	// Not more than so many at once.
	l.dropDead(t.Context(), append(slices.Repeat([]string{"x"}, deadMost), "dave@VIVO"), w.clock())
	if !w.hasPhone("dave") {
		t.Error("an answer without end was taken")
	}

	// A lane that is halted asks nothing.
	w.result(push.Result{Class: push.ConfigHalt, Code: "x"})
	w.one("eve", chat.VIVO)
	w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "x" })
	n := times()
	for range 30 {
		w.pass(5 * time.Minute)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // nothing must happen
	if times() != n {
		t.Error("a halted lane has asked")
	}
	// Nor one that has not got anything through for a day, though it goes on.
	w.result(push.Result{Class: push.UserCap, Code: "x"})
	w.pass(25 * time.Hour)
	w.credential(chat.VIVO)
	w.until("the lane goes on", func() bool { return w.halted(chat.VIVO) == "" })
	w.ends(w.one("eve", chat.VIVO), "user_cap")
	time.Sleep(20 * time.Millisecond) // nothing must happen
	if times() != n {
		t.Error("asked by who gets nothing through")
	}
}

// A notification that is taken clears what was said of the token on other days.
func TestStrikesDoNotAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.phone("carol", chat.VIVO)
	struck := true
	w.answers(func(n *push.Notification) push.Attempt { // under w.mu
		if n.User == "bob" && struck {
			return push.Attempt{Result: push.Result{Class: push.TokenStrike, Code: "2"}}
		}
		return push.Attempt{Result: accepted}
	})
	says := func(v bool) {
		w.mu.Lock()
		struck = v
		w.mu.Unlock()
	}
	isStruck := func() bool {
		d, err := w.store.PushDevice(t.Context(), w.app.ID, "bob", "VIVO")
		if err != nil || d == nil {
			t.Fatalf("%+v, %v", d, err)
		}
		return d.Struck
	}
	for range 2 * chat.PushStrikes {
		says(true)
		w.ends(w.one("bob", chat.VIVO), "token_strike")
		w.ends(w.one("carol", chat.VIVO), "accepted")
		w.until("it is noted", isStruck)
		w.pass(24 * time.Hour)
		says(false)
		w.ends(w.one("bob", chat.VIVO), "accepted")
		w.until("it is forgotten", func() bool { return !isStruck() })
		w.pass(24 * time.Hour)
	}
	// What was said just before it was taken is not said at all.
	says(true)
	w.ends(w.one("bob", chat.VIVO), "token_strike")
	says(false)
	w.ends(w.one("bob", chat.VIVO), "accepted")
	w.ends(w.one("carol", chat.VIVO), "accepted")
	w.until("all is done", func() bool { return w.quiet(chat.VIVO) })
	if isStruck() {
		t.Error("struck though it was taken")
	}
}

// A token that turns out to be of another environment is registered so, unless
// something else was registered meanwhile.
func TestEnvironmentIsCorrected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(w *world)
		want      chat.PushEnvironment
		token     string
	}{
		"nothing":  {func(*world) {}, chat.Sandbox, "bob@APNs"},
		"gone":     {func(w *world) { w.forget("bob", chat.APNs) }, 0, ""},
		"newer":    {func(w *world) { w.pass(time.Second); w.phone("bob", chat.APNs) }, 0, "bob@APNs"},
		"another":  {func(w *world) { w.token("bob", chat.APNs, "new") }, 0, "new"},
		"moved on": {func(w *world) { w.token("carol", chat.APNs, "bob@APNs") }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.store.PutPushCredential(t.Context(), w.app.ID, &chat.PushCredential{Provider: chat.APNs}); err != nil {
				t.Fatal(err)
			}
			w.run()
			w.phone("bob", chat.APNs)
			w.answers(func(*push.Notification) push.Attempt { // under w.mu
				w.mu.Unlock()
				defer w.mu.Lock()
				c.meanwhile(w)
				return push.Attempt{Result: push.Result{Class: push.Accepted, Code: "200", Environment: chat.Sandbox}}
			})
			w.ends(w.one("bob", chat.APNs), "accepted")
			d, err := w.store.PushDevice(t.Context(), w.app.ID, "bob", "APNs")
			if err != nil || (d == nil) != (c.token == "") {
				t.Fatalf("%+v, %v", d, err)
			}
			if d != nil && (d.Environment != c.want || d.Token != c.token) {
				t.Errorf("%s, environment %s", d.Token, d.Environment)
			}
		})
	}
}

func (w *world) forget(user string, p chat.PushProvider) {
	if err := w.store.RemovePushDevice(w.t.Context(), w.app.ID, user, p.String()); err != nil {
		w.t.Error(err)
	}
}

// token registers another token for the user's device.
func (w *world) token(user string, p chat.PushProvider, token string) {
	now := w.clock().UnixMilli()
	d := &chat.PushDevice{ID: p.String(), Provider: p, Token: token, Package: "com.example.app", RegisteredAt: now, SeenAt: now}
	if err := w.store.PutPushDevice(w.t.Context(), w.app.ID, user, d); err != nil {
		w.t.Error(err)
	}
}
