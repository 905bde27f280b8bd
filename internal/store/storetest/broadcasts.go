package storetest

import (
	"fmt"
	"reflect"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func systemMessage(id chat.AppID, content string) *chat.Message {
	m := message("news", content)
	m.App, m.ChannelType = id, chat.System
	return m
}

// broadcast appends b, with its message.
func (e *env) broadcast(b *chat.Broadcast) *chat.Broadcast {
	e.Helper()
	b.From = "news"
	m := b.Message
	if m == nil {
		m = systemMessage(b.App, "")
	}
	a := &store.Append{Message: m, Broadcast: b}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatalf("broadcast: %v", err)
	}
	if b.UID != a.Placed.First || len(a.Placed.Entries) != 0 {
		e.Fatalf("broadcast %s was placed at %+v", b.UID, a.Placed)
	}
	return b
}

func (e *env) alive() []*chat.Broadcast {
	e.Helper()
	list, err := e.Broadcasts(e.ctx, e.clock.Now().UnixMilli())
	if err != nil {
		e.Fatalf("broadcasts: %v", err)
	}
	return list
}

// take gives a broadcast to users.
func (e *env) take(b *chat.Broadcast, pass bool, users ...string) *store.Append {
	e.Helper()
	a := &store.Append{Message: systemMessage(b.App, "given"), Targets: users, Taking: &store.Taking{Of: b.UID, Pass: pass}}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatalf("take: %v", err)
	}
	return a
}

func (e *env) taken(id chat.AppID, of chat.UID, user string) chat.UID {
	e.Helper()
	uid, err := e.Taken(e.ctx, id, of, user)
	if err != nil {
		e.Fatalf("taken by %s: %v", user, err)
	}
	return uid
}

func (e *env) passed(id chat.AppID, user string) chat.UID {
	e.Helper()
	uid, err := e.Passed(e.ctx, id, user)
	if err != nil {
		e.Fatalf("passed %s: %v", user, err)
	}
	return uid
}

// testBroadcasts sees that broadcasts are kept as they were given, apart from
// messages.
func testBroadcasts(e *env) {
	m := systemMessage(app, "to all")
	m.Push = chat.PushOptions{Content: "look", Ext: `{"title":"t"}`, More: `{"ios":{}}`}
	want := []*chat.Broadcast{
		e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastAll, RequestID: "r1", Life: chat.BroadcastLife, Message: m}),
		e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastOnline, Life: chat.OnlineLife, Message: systemMessage(app, "online")}),
		e.broadcast(&chat.Broadcast{App: 2, Kind: chat.BroadcastTag, Life: chat.BroadcastLife, Message: systemMessage(2, "of another app"), Audience: chat.Audience{
			AllTags: []string{"a", "b"}, AnyTag: []string{"c"}, Package: "com.example.app", Platforms: []string{"ios", "android"},
		}}),
	}
	want = append(want, e.broadcast(&chat.Broadcast{
		App: app, Kind: chat.BroadcastRecall, Life: chat.BroadcastLife, Recalls: want[0].UID, DisableUpdateLast: true,
		Recall: chat.Recall{Operator: "news", At: 17, Admin: true, Extra: "x"},
	}))
	for range 2 {
		got := e.alive()
		if len(got) != len(want) {
			e.Fatalf("%d broadcasts, want %d", len(got), len(want))
		}
		for i, w := range want {
			without := *w
			without.Message = nil
			if !reflect.DeepEqual(*got[i], without) {
				e.Errorf("broadcast %d is %+v, want %+v", i, got[i], without)
			}
			whole, err := e.Broadcast(e.ctx, w.App, w.UID)
			if err != nil || !reflect.DeepEqual(whole, w) {
				e.Errorf("broadcast %d is %+v, %v, want %+v", i, whole, err, w)
			}
			_, err = e.Broadcast(e.ctx, 3-w.App, w.UID)
			e.wantKind(err, chat.KindNotFound)
			_, err = e.Find(e.ctx, w.App, w.UID)
			e.wantKind(err, chat.KindNotFound)
		}
		e.reopen()
	}
	// Those that live for days, in the order in which they came.
	behind := func(uid chat.UID, limit int, want ...*chat.Broadcast) {
		e.Helper()
		got, err := e.BroadcastsBehind(e.ctx, uid, limit)
		if err != nil || len(got) != len(want) {
			e.Fatalf("%d broadcasts behind %s, %v, want %d", len(got), uid, err, len(want))
		}
		for i, w := range want {
			without := *w
			without.Message = nil
			if !reflect.DeepEqual(*got[i], without) {
				e.Errorf("broadcast %d behind %s is %+v, want %+v", i, uid, got[i], without)
			}
		}
	}
	behind(chat.UID{}, 10, want[0], want[2], want[3])
	behind(chat.UID{}, 2, want[0], want[2])
	behind(want[0].UID, 10, want[2], want[3])
	behind(want[1].UID, 10, want[2], want[3])
	behind(want[3].UID, 10)
	_, err := e.BroadcastsBehind(e.ctx, want[0].UID, 0)
	e.wantKind(err, chat.KindInvalid)
	_, err = e.Broadcast(e.ctx, app, want[0].UID.Plus(100))
	e.wantKind(err, chat.KindNotFound)
	e.wantKind(e.Append(e.ctx, &store.Append{Message: m, Targets: []string{"bob"}, Broadcast: &chat.Broadcast{App: app}}), chat.KindInvalid)
}

// testBroadcastOnce sees that the memory of a request is of the broadcast's
// commit.
func testBroadcastOnce(e *env) {
	b := &chat.Broadcast{App: app, Kind: chat.BroadcastAll, Life: chat.BroadcastLife, Message: systemMessage(app, "once")}
	key := [16]byte{1, 2, 3}
	if err := e.Append(e.ctx, &store.Append{Message: b.Message, Broadcast: b, Once: &store.Once{Key: key}}); err != nil {
		e.Fatal(err)
	}
	o, err := e.Once(e.ctx, key)
	if err != nil || o == nil || o.First != b.UID {
		e.Errorf("once is %+v, %v, want %s", o, err, b.UID)
	}
}

// testBroadcastsEnd sees that a broadcast is alive for its life, and goes a
// while later.
func testBroadcastsEnd(e *env) {
	long := e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastAll, Life: chat.BroadcastLife, Message: systemMessage(app, "long")})
	short := e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastOnline, Life: chat.OnlineLife, Message: systemMessage(app, "short")})
	e.take(long, true, "bob")
	there := func(b *chat.Broadcast) bool {
		_, err := e.Broadcast(e.ctx, app, b.UID)
		return err == nil
	}
	for _, s := range []struct {
		after                              time.Duration
		longAlive, shortAlive, long, short bool
	}{
		{chat.OnlineLife - time.Second, true, true, true, true},
		{time.Minute, true, false, true, true},
		{2 * 24 * time.Hour, true, false, true, false},
		{5*24*time.Hour - 11*time.Minute, true, false, true, false},
		{20 * time.Minute, false, false, true, false},
		{7 * 24 * time.Hour, false, false, true, false},
		{2 * 24 * time.Hour, false, false, false, false},
	} {
		e.clock.advance(s.after)
		e.expire()
		alive := map[chat.UID]bool{}
		for _, b := range e.alive() {
			alive[b.UID] = true
		}
		now := fmt.Sprint(e.clock.Now())
		if alive[long.UID] != s.longAlive || alive[short.UID] != s.shortAlive {
			e.Errorf("%s: alive are %v", now, alive)
		}
		if there(long) != s.long || there(short) != s.short {
			e.Errorf("%s: long is there: %t, short: %t", now, there(long), there(short))
		}
		if got := e.taken(app, long.UID, "bob"); got.IsZero() == s.long {
			e.Errorf("%s: bob has had it as %s", now, got)
		}
	}
}

// testTaken sees that who was given a broadcast is known, in the commit that
// gave it.
func testTaken(e *env) {
	one := e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastAll, Life: chat.BroadcastLife, Message: systemMessage(app, "1")})
	two := e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastTag, Life: chat.BroadcastLife, Message: systemMessage(app, "2")})
	if got := e.passed(app, "bob"); !got.IsZero() {
		e.Errorf("bob was passed by %s", got)
	}
	many := users(20)
	a := e.take(one, true, append([]string{"bob"}, many...)...)
	b := e.take(two, false, "bob")
	count := func(of chat.UID, most int) int {
		e.Helper()
		n, err := e.CountTaken(e.ctx, app, of, most)
		if err != nil {
			e.Fatal(err)
		}
		return n
	}
	for range 2 {
		if got := e.taken(app, one.UID, "bob"); got != a.Placed.First {
			e.Errorf("bob has %s, want %s", got, a.Placed.First)
		}
		if got := e.taken(app, one.UID, many[19]); got != a.Placed.First.Plus(20) {
			e.Errorf("the last has %s, want %s", got, a.Placed.First.Plus(20))
		}
		if got := e.taken(app, two.UID, "bob"); got != b.Placed.First {
			e.Errorf("bob has %s, want %s", got, b.Placed.First)
		}
		if got := e.passed(app, "bob"); got != one.UID {
			e.Errorf("bob was passed by %s, want %s: only takings that say so count", got, one.UID)
		}
		for _, nobody := range []chat.UID{e.taken(app, two.UID, many[0]), e.taken(2, one.UID, "bob"), e.taken(app, one.UID, "bo"), e.passed(2, "bob"), e.passed(app, "bo")} {
			if !nobody.IsZero() {
				e.Errorf("somebody has had %s", nobody)
			}
		}
		if n, some, other := count(one.UID, 100), count(one.UID, 5), count(two.UID, 100); n != 21 || some != 5 || other != 1 {
			e.Errorf("%d, %d and %d have had it", n, some, other)
		}
		if entries := e.all(app, "bob"); len(entries) != 2 || entries[0].UID != a.Placed.First {
			e.Errorf("entries %+v", entries)
		}
		e.reopen()
	}
}

// testTakenIsDurable sees that after a crash a user has the message if and only
// if it is noted that they do.
func testTakenIsDurable(e *env) {
	if e.place.Crash == nil {
		e.Skip("no crash")
	}
	b := e.broadcast(&chat.Broadcast{App: app, Kind: chat.BroadcastAll, Life: chat.BroadcastLife, Message: systemMessage(app, "1")})
	for round := range 5 {
		user := fmt.Sprint("user", round)
		a := e.take(b, true, user)
		e.closed = true
		e.place.Crash(e.Store)
		e.open()
		if got := e.taken(app, b.UID, user); got != a.Placed.First || e.passed(app, user) != b.UID || len(e.all(app, user)) != 1 {
			e.Errorf("%s has %s, passed by %s, %d entries", user, got, e.passed(app, user), len(e.all(app, user)))
		}
	}
	if list := e.alive(); len(list) != 1 {
		e.Errorf("%d broadcasts after crashes", len(list))
	}
}
