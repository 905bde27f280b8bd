package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// newReader is a world in which bob has three phones, two of which take
// notifications away again when they are told to. All of it runs.
func newReader(t *testing.T, settings ...string) *world {
	t.Helper()
	w := newWorld(t)
	for _, p := range []chat.PushProvider{chat.APNs, chat.FCM} {
		if err := w.store.PutPushCredential(t.Context(), w.app.ID, &chat.PushCredential{Provider: p}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []chat.PushProvider{chat.APNs, chat.FCM, chat.VIVO} {
		w.phone("bob", p)
	}
	w.set("push.withdraw", "true")
	w.runAll()
	return w
}

func (w *world) set(name, value string) {
	w.t.Helper()
	app, err := w.dir.SetApp(w.t.Context(), w.app.Key, map[string]string{name: value})
	if err != nil {
		w.t.Fatal(err)
	}
	w.app = app
}

// runAll runs the follower too.
func (w *world) runAll() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.d.Run(ctx) })
	w.stop = func() {
		cancel()
		wg.Wait()
	}
}

// followed waits until everything that was sent so far is decided upon.
func (w *world) followed() {
	w.t.Helper()
	w.pass(3 * time.Second)
	head := w.store.LogHead()
	w.until("the log is passed", func() bool {
		at, err := w.store.Watermark(w.t.Context(), store.PushConsumer)
		if err != nil {
			w.t.Fatal(err)
		}
		return at >= head
	})
}

// done waits until everything is decided upon and nothing is left to be sent.
func (w *world) done() {
	w.t.Helper()
	w.followed()
	w.until("all is sent", func() bool {
		return w.left(chat.APNs)+w.left(chat.FCM)+w.left(chat.VIVO) == 0 && w.d.settler.behind() == 0
	})
}

// own is an event that tells bob's devices what he has made of his channel with
// alice, and changes it.
func (w *world) own(ev chat.Event, v *chat.View, marks ...store.MarkChange) {
	w.t.Helper()
	ev.ChannelType, ev.Channel = chat.Direct, "alice"
	a := &store.Append{
		Message: &chat.Message{App: w.app.ID, ChannelType: chat.Direct, Flags: chat.Missed, From: "bob", Event: &ev},
		Targets: []string{"bob"}, Marks: marks,
	}
	if v != nil {
		a.Views = []store.ViewChange{{Channel: w.channel(), View: v}}
	}
	if err := w.store.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) channel() store.ChannelRef {
	return store.ChannelRef{App: w.app.ID, Owner: "bob", Type: chat.Direct, Channel: "alice"}
}

// read is bob reading the channel up to the message.
func (w *world) read(uid chat.UID) {
	w.own(chat.Event{Kind: chat.EventRead, UpTo: uid}, &chat.View{ReadUpTo: uid, ReadAt: 1})
}

func (w *world) mark(uid chat.UID, m store.Mark) store.MarkChange {
	return store.MarkChange{Channel: w.channel(), UID: uid, Mark: m, At: 1}
}

// recall takes a message back from bob.
func (w *world) recall(uid chat.UID, disable bool) {
	w.t.Helper()
	r := &chat.Recall{Operator: "alice", At: 1}
	m := &chat.Message{
		App: w.app.ID, ChannelType: chat.Direct, From: "alice", Flags: chat.Missed,
		Event: &chat.Event{Kind: chat.EventRecall, UID: uid, Operator: "alice", At: 1},
	}
	m.Push.Disabled = disable
	if err := w.store.Append(w.t.Context(), &store.Append{
		Message: m, Targets: []string{"bob"}, Marks: []store.MarkChange{w.mark(uid, store.MarkRecalled)},
		States: []store.StateChange{{UID: uid, History: true, State: &chat.State{Recall: r}}},
	}); err != nil {
		w.t.Fatal(err)
	}
}

// withdrawn is what was taken back since: by device, one message, or up to one. Since
// the beginning there may be other notifications between.
func (w *world) withdrawn(from int) (list []string) {
	w.t.Helper()
	for _, s := range w.sentTo("bob")[from:] {
		if !s.silent && from == 0 {
			continue
		}
		if !s.silent {
			w.t.Errorf("an alert: %+v", s)
		}
		what := "one"
		if s.before {
			what = "all"
		}
		if s.title != "" || s.body != "" {
			w.t.Errorf("it has something to show: %+v", s)
		}
		list = append(list, fmt.Sprintf("%s %s %s", strings.TrimPrefix(s.token, "bob@"), what, s.removes))
	}
	slices.Sort(list)
	return list
}

func (w *world) wantWithdrawn(from int, what string, uids ...chat.UID) {
	w.t.Helper()
	var want []string
	for _, p := range []string{"APNs", "FCM"} {
		for _, uid := range uids {
			want = append(want, fmt.Sprintf("%s %s %s", p, what, uid))
		}
	}
	slices.Sort(want)
	if got := w.withdrawn(from); !slices.Equal(got, want) {
		w.t.Errorf("taken back:\n got %q\nwant %q", got, want)
	}
}

func (w *world) shown() chat.UID {
	w.t.Helper()
	uid, err := w.store.PushShown(w.t.Context(), w.channel())
	if err != nil {
		w.t.Fatal(err)
	}
	return uid
}

// What was read or thrown away on another device goes from those that showed it.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(w *world, first, last chat.UID)
		what  string
		which []int // of first and last
		left  int   // which one is still known to be shown; -1 for none
	}{
		"read": {func(w *world, _, last chat.UID) { w.read(last) }, "all", []int{1}, -1},
		"read up to one that is there no more": {func(w *world, _, last chat.UID) {
			uid := w.message("later", "bob")
			w.read(uid)
		}, "all", []int{1}, -1},
		"read in part":       {func(w *world, first, _ chat.UID) { w.read(first) }, "", nil, 1},
		"read twice at once": {func(w *world, _, last chat.UID) { w.read(last); w.read(last) }, "all", []int{1}, -1},
		"cleared": {func(w *world, _, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventDelete, UpTo: last}, &chat.View{ClearedUpTo: last})
		}, "all", []int{1}, -1},
		"off the list": {func(w *world, _, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnRemoved}}, &chat.View{RemovedUpTo: last})
		}, "all", []int{1}, -1},
		"pinned": {func(w *world, _, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnPin}}, &chat.View{PinnedAt: 1})
		}, "", nil, 1},
		"deleted": {func(w *world, first, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventDelete, UIDs: []chat.UID{first}}, nil, w.mark(first, store.MarkHidden))
		}, "one", []int{0}, 1},
		"read one by one": {func(w *world, first, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventRead, UIDs: []chat.UID{first, last}}, nil, w.mark(first, store.MarkRead), w.mark(last, store.MarkRead))
		}, "one", []int{0, 1}, 1},
		"recalled quietly": {func(w *world, _, last chat.UID) { w.recall(last, true) }, "one", []int{1}, 1},
		"recalled by whom nothing is to be heard of": {func(w *world, _, last chat.UID) {
			w.own(chat.Event{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnLevel}}, &chat.View{Level: chat.NotifyNothing})
			w.recall(last, false)
		}, "one", []int{1}, 1},
		"recalled and read": {func(w *world, _, last chat.UID) {
			w.read(last)
			w.recall(last, true)
		}, "all", []int{1}, -1},
		"of whom nobody pushes": {func(w *world, _, last chat.UID) {
			w.set("push.withdraw", "false")
			w.read(last)
		}, "", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newReader(t)
			both := [2]chat.UID{w.message("one", "bob"), w.message("two", "bob")}
			w.done()
			if n := len(w.sentTo("bob")); n != 6 {
				t.Fatalf("%d notifications, want 6", n)
			}
			if got := w.shown(); got != both[1] {
				t.Fatalf("shown is %s, want %s", got, both[1])
			}
			c.do(w, both[0], both[1])
			w.done()
			var want []chat.UID
			for _, i := range c.which {
				want = append(want, both[i])
			}
			w.until("all is written", func() bool { return w.shown().IsZero() == (c.left < 0) })
			if name == "read up to one that is there no more" && len(w.sentTo("bob")) == 6 {
				t.Fatal("nothing is taken back")
			}
			w.wantWithdrawn(6, c.what, want...)
			if c.left >= 0 && w.shown() != both[c.left] {
				t.Errorf("shown is %s, want %s", w.shown(), both[c.left])
			}
			// What became of the notification stays.
			for _, uid := range both {
				list, err := w.store.PushOutcomes(t.Context(), uid)
				if err != nil || len(list) != 3 {
					t.Errorf("outcomes %+v, %v", list, err)
				}
				for _, o := range list {
					if o.Kind != store.PushMessage || o.Class != "accepted" {
						t.Errorf("outcome %+v", o)
					}
				}
			}
			// And there is no more to be said.
			n := len(w.sentTo("bob"))
			w.own(chat.Event{Kind: chat.EventRead}, nil)
			w.done()
			if c.left < 0 && len(w.sentTo("bob")) != n {
				t.Error("it is taken back again")
			}
		})
	}
}

// A recall that notifies takes the place of what it recalls; nothing silent is
// needed.
func TestRecallTakesThePlace(t *testing.T) {
	t.Parallel()
	w := newReader(t)
	uid := w.message("one", "bob")
	w.done()
	w.recall(uid, false)
	w.done()
	list := w.sentTo("bob")
	if len(list) != 6 {
		t.Fatalf("%d notifications, want 6", len(list))
	}
	for _, s := range list[3:] {
		if s.silent || s.kind != push.Recall || s.removes != uid || s.before {
			t.Errorf("%+v", s)
		}
	}
	// What is shown is known by the message that was recalled.
	if w.shown() != uid {
		t.Errorf("shown is %s, want %s", w.shown(), uid)
	}
	w.read(w.message("two", "bob"))
	w.done()
	w.wantWithdrawn(6, "all", uid)
}

// reads are the ways in which bob reads a message: with all before it, and alone.
var reads = map[string]func(*world, chat.UID){
	"all": func(w *world, uid chat.UID) { w.read(uid) },
	"one": func(w *world, uid chat.UID) {
		w.own(chat.Event{Kind: chat.EventDelete, UIDs: []chat.UID{uid}}, nil, w.mark(uid, store.MarkHidden))
	},
}

// onTheWay is a message of which bob's devices are being notified, which takes until
// hang is closed.
func (w *world) onTheWay() (uid chat.UID, hang chan struct{}) {
	w.t.Helper()
	hang = make(chan struct{})
	w.mu.Lock()
	w.hang = hang
	w.mu.Unlock()
	uid = w.message("one", "bob")
	w.followed()
	w.until("they are on their way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.flight) == 3
	})
	return uid, hang
}

// What is read while the notification is on its way is taken back once it is there.
func TestReadOnTheWay(t *testing.T) {
	t.Parallel()
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newReader(t)
			uid, hang := w.onTheWay()
			read(w, uid)
			w.followed()
			if !w.shown().IsZero() {
				t.Fatal("it is known to be shown already")
			}
			close(hang)
			w.until("it is taken back", func() bool { return len(w.sentTo("bob")) >= 5 })
			w.done()
			w.wantWithdrawn(0, name, uid)
		})
	}
}

// What is read in the moment in which its notification is taken is seen twice, by
// whoever writes that it is shown and by the follower, and taken back once, of all
// devices.
func TestReadAsItIsTaken(t *testing.T) {
	t.Parallel()
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newReader(t)
			uid, hang := w.onTheWay()
			read(w, uid) // the follower comes to it once the grace is over
			close(hang)
			w.until("it is taken back", func() bool { return len(w.sentTo("bob")) >= 5 })
			w.done()
			w.wantWithdrawn(0, name, uid)
		})
	}
}

// What a follower could not write is made by the one after it, and what the settler
// could not by whoever comes next.
func TestTakenBackByWhoeverIsNext(t *testing.T) {
	t.Parallel()
	var b backs
	at := time.Unix(1000, 0)
	k := back{screen{store.ChannelRef{App: 1, Owner: "bob"}, "phone"}, chat.NewUID(1, chat.Direct, 1, 1), true}
	one, two := &follower{}, &follower{}
	for i, c := range []struct {
		by   *follower
		want bool
	}{{one, true}, {one, false}, {nil, false}, {two, true}, {one, true}, {nil, false}} {
		if got := b.claim(k, c.by, at); got != c.want {
			t.Errorf("%d: %t", i, got)
		}
	}
	b.failed([]back{k})
	for i, c := range []struct {
		by   *follower
		want bool
	}{{nil, true}, {nil, false}, {one, false}} {
		if got := b.claim(k, c.by, at); got != c.want {
			t.Errorf("after it has failed, %d: %t", i, got)
		}
	}
	if other := k; true {
		other.all = false
		if !b.claim(other, nil, at) {
			t.Error("one is not all")
		}
	}
	if b.claim(k, nil, at.Add(backsTurn)) {
		t.Error("it is forgotten too soon")
	}
	for i := range 3 * maxBacks {
		b.claim(back{uid: chat.NewUID(int64(i), chat.Direct, 1, 1)}, nil, at.Add(backsTurn))
	}
	if n := len(b.now) + len(b.last); n > 2*maxBacks {
		t.Errorf("%d are known", n)
	}
	if !b.claim(k, nil, at.Add(4*backsTurn)) {
		t.Error("it is never forgotten")
	}
}

// The newest counts of what is shown, in whichever order devices are notified, and
// taking it back takes nothing back that came later.
func TestShownInNoOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var uids []chat.UID
	for i := range 4 {
		uids = append(uids, w.message(fmt.Sprint(i), "bob"))
	}
	ch, other := w.channel(), w.channel()
	other.Channel = "carol"
	shown := func(i int) settled { return settled{shown: &store.PushShownOf{Channel: ch, UID: uids[i]}} }
	gone := func(i int) settled { return settled{unshown: &store.PushShownOf{Channel: ch, UID: uids[i]}} }
	for i, c := range []struct {
		batch []settled
		want  chat.UID
	}{
		{[]settled{gone(0)}, chat.UID{}},
		{[]settled{shown(1), shown(0)}, uids[1]},
		{[]settled{shown(0)}, uids[1]},
		{[]settled{gone(0)}, uids[1]},
		{[]settled{shown(2), gone(1)}, uids[2]},
		{[]settled{gone(2), shown(1)}, chat.UID{}},
		{[]settled{gone(1), shown(3), {shown: &store.PushShownOf{Channel: other, UID: uids[0]}}}, uids[3]},
		{[]settled{gone(3)}, chat.UID{}},
	} {
		w.d.settler.write(c.batch, nil)
		if got := w.shown(); got != c.want {
			t.Errorf("%d: shown is %s, want %s", i, got, c.want)
		}
	}
	if uid, err := w.store.PushShown(t.Context(), other); err != nil || uid != uids[0] {
		t.Errorf("of another channel %s, %v", uid, err)
	}
}

// A device in a storm is told of the rest once a minute, but what it is to take
// back at once; and a crash leaves that to be done.
func TestWithdrawalsAreNotHeld(t *testing.T) {
	t.Parallel()
	w := newReader(t)
	var uids []chat.UID
	for i := range stormAfter + 5 {
		uids = append(uids, w.message(fmt.Sprint(i), "bob"))
	}
	w.followed()
	w.until("the storm is held", func() bool {
		return len(w.sentTo("bob")) == 3*stormAfter && w.left(chat.APNs) == 1 && w.left(chat.FCM) == 1 && w.left(chat.VIVO) == 1 &&
			w.d.settler.behind() == 0 // it has looked whether any was read meanwhile
	})
	w.result(push.Result{Class: push.Retry, Code: "500"})
	from := len(w.sentTo("bob"))
	w.read(uids[len(uids)-1])
	w.followed()
	w.until("it is tried to take back", func() bool { return len(w.sentTo("bob")) >= from+2 })
	w.crash()
	w.mu.Lock()
	from = len(w.sent)
	w.mu.Unlock()
	w.result(accepted)
	w.runAll()
	w.until("it is taken back", func() bool {
		w.pass(2 * time.Second)
		return w.left(chat.APNs)+w.left(chat.FCM) <= 2 && len(w.sentTo("bob")) >= from+2
	})
	w.pass(2 * summaryPause)
	w.until("nothing is left", func() bool { return w.left(chat.APNs)+w.left(chat.FCM)+w.left(chat.VIVO) == 0 })
	// What was held is read: it is never shown.
	w.wantWithdrawn(from, "all", uids[stormAfter-1])
}
