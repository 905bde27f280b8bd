package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func (e *env) wantUnread(ch store.ChannelRef, r store.KeptRange, want int) {
	e.Helper()
	if r.Limit == 0 {
		r.Limit = 1000
	}
	if n, err := e.Unread(e.ctx, ch, r); err != nil || n != want {
		e.Errorf("%d unread behind %s, %v, want %d", n, r.After, err, want)
	}
}

func (e *env) mark(ch store.ChannelRef, m store.Mark, uids ...chat.UID) {
	e.Helper()
	var marks []store.MarkChange
	for _, uid := range uids {
		marks = append(marks, store.MarkChange{Channel: ch, UID: uid, Mark: m})
	}
	if err := e.Append(e.ctx, look(nil, marks...)); err != nil {
		e.Fatal(err)
	}
}

// testUnread sees what counts, over months and in other people's channels too.
func testUnread(e *env) {
	bob := channelOf("bob", chat.Direct, "alice")
	var uids []chat.UID
	for i := range 9 {
		if i%3 == 2 {
			e.clock.advance(25 * 24 * time.Hour)
		}
		m := message("alice", fmt.Sprint(i))
		m.Echo = true
		uids = append(uids, e.send(m, "carol", "bob", "alice").Placed.First.Plus(1))
		// None of these counts.
		quiet := message("alice", "a notice")
		quiet.Flags = chat.Kept | chat.Missed
		e.send(quiet, "bob")
		e.send(status("alice"), "bob")
	}
	sys := message("alice", "of another channel")
	sys.ChannelType = chat.System
	e.send(sys, "bob")
	e.index()
	for range 2 {
		e.wantUnread(bob, store.KeptRange{}, 9)
		e.wantUnread(bob, store.KeptRange{Limit: 4}, 4)
		for i, uid := range uids {
			e.wantUnread(bob, store.KeptRange{After: uid}, 8-i)
			e.wantUnread(bob, store.KeptRange{After: uid.Plus(-1)}, 9-i)
		}
		e.wantUnread(channelOf("carol", chat.Direct, "alice"), store.KeptRange{}, 9)
		e.wantUnread(channelOf("bob", chat.System, "alice"), store.KeptRange{}, 1)
		for _, ch := range []store.ChannelRef{
			channelOf("alice", chat.Direct, "bob"), channelOf("alice", chat.Direct, "alice"),
			channelOf("bo", chat.Direct, "alice"), channelOf("bob", chat.Direct, "alic"),
			{App: 2, Owner: "bob", Type: chat.Direct, Channel: "alice"},
		} {
			e.wantUnread(ch, store.KeptRange{}, 0)
		}
		e.reopen()
	}
	for i, m := range []store.Mark{store.MarkHidden, store.MarkRecalled, store.MarkRead} {
		e.mark(bob, m, uids[0], uids[3*i+1], uids[3*i+2])
		e.wantUnread(bob, store.KeptRange{}, 6-2*i)
	}
	e.wantUnread(bob, store.KeptRange{After: uids[0]}, 2)
	e.wantUnread(bob, store.KeptRange{Limit: 1}, 1)
	e.wantUnread(channelOf("carol", chat.Direct, "alice"), store.KeptRange{}, 9)
	if e.place.Crash != nil {
		e.place.Crash(e.Store)
		e.open()
		e.index()
		e.wantUnread(bob, store.KeptRange{}, 2)
	}
	e.clock.advance(300 * 24 * time.Hour)
	e.expire()
	e.wantUnread(bob, store.KeptRange{}, 0)
	_, err := e.Unread(e.ctx, bob, store.KeptRange{})
	e.wantKind(err, chat.KindInvalid)
	_, err = e.Unread(e.ctx, channelOf("bob", chat.Direct, string(make([]byte, 300))), store.KeptRange{Limit: 1})
	e.wantKind(err, chat.KindTooLong)
}

// testUnreadMissed sees that messages which are not in history count as long as
// they wait, and no others are kept for it.
func testUnreadMissed(e *env) {
	bob := channelOf("bob", chat.Direct, "alice")
	send := func(content string) chat.UID {
		m := message("alice", content)
		m.Persist = false
		return e.send(m, "bob").Placed.First
	}
	var uids []chat.UID
	for i := range 4 {
		uids = append(uids, send(fmt.Sprint(i)))
		e.clock.advance(24 * time.Hour)
	}
	kept := e.send(message("alice", "kept"), "bob").Placed.First
	e.index()
	check := func(r store.KeptRange, want int) {
		e.Helper()
		e.wantUnread(bob, r, want)
	}
	check(store.KeptRange{}, 5)
	check(store.KeptRange{Limit: 3}, 3)
	check(store.KeptRange{After: uids[1]}, 3)
	check(store.KeptRange{Missed: uids[2]}, 2)
	check(store.KeptRange{After: uids[1], Missed: uids[2]}, 2)
	check(store.KeptRange{After: kept, Missed: uids[0]}, 0)
	e.mark(bob, store.MarkRecalled, uids[3])
	check(store.KeptRange{}, 4)
	if h, err := e.History(e.ctx, bob, store.HistoryRange{Limit: 9}); err != nil || len(h) != 1 || h[0].UID != kept {
		e.Errorf("history is %+v, %v", h, err)
	}
	// On the seventh day behind its own a day of messages goes.
	e.clock.advance(5 * 24 * time.Hour)
	check(store.KeptRange{}, 2)
	e.clock.advance(60 * 24 * time.Hour)
	e.expire()
	check(store.KeptRange{}, 1)
	if uid, err := e.Newest(e.ctx, bob); err != nil || uid != kept {
		e.Errorf("newest is %s, %v", uid, err)
	}
}

// testQuiet sees that messages which were sent not to be the last one are found
// all the same.
func testQuiet(e *env) {
	send := func(from, to string, ct chat.ChannelType, quiet bool) chat.UID {
		m := message(from, "x")
		m.ChannelType, m.DisableUpdateLast = ct, quiet
		return e.send(m, to).Placed.First
	}
	check := func(want ...store.ChannelState) {
		e.Helper()
		e.index()
		for range 2 {
			got, err := e.Channels(e.ctx, app, "bob", 10)
			if err != nil || !slices.Equal(got, want) {
				e.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
			for _, c := range want {
				if got, err := e.Channel(e.ctx, channelOf("bob", c.Type, c.Channel)); err != nil || got != c {
					e.Errorf("got %+v, %v, want %+v", got, err, c)
				}
			}
			e.reopen()
		}
	}
	in := func(uid chat.UID) store.HistoryEntry {
		return store.HistoryEntry{UID: uid, Ref: uid, Kind: store.EntryIn}
	}
	check()
	a := send("alice", "bob", chat.Direct, false)
	q := send("shop", "bob", chat.System, true)
	check(store.ChannelState{Type: chat.Direct, Channel: "alice", Last: in(a)}, store.ChannelState{Type: chat.System, Channel: "shop", Quiet: q})
	send("alice", "bob", chat.Direct, true)
	q2 := send("alice", "bob", chat.Direct, true)
	want := []store.ChannelState{{Type: chat.Direct, Channel: "alice", Last: in(a), Quiet: q2}, {Type: chat.System, Channel: "shop", Quiet: q}}
	check(want...)
	// What does not count, and what one sends, is not worth a row.
	m := message("alice", "notice")
	m.Flags, m.DisableUpdateLast = chat.Kept|chat.Missed, true
	e.send(m, "bob")
	m = message("bob", "mine")
	m.Echo, m.DisableUpdateLast = true, true
	e.send(m, "alice", "bob")
	check(want...)
	if c, err := e.Channel(e.ctx, channelOf("bob", chat.Direct, "nobody")); err != nil || c != (store.ChannelState{Type: chat.Direct, Channel: "nobody"}) {
		e.Errorf("got %+v, %v", c, err)
	}
}

// testNewest sees that the newest message is found wherever it is kept.
func testNewest(e *env) {
	bob := channelOf("bob", chat.Direct, "alice")
	check := func(want chat.UID) {
		e.Helper()
		e.index()
		if uid, err := e.Newest(e.ctx, bob); err != nil || uid != want {
			e.Errorf("newest is %s, %v, want %s", uid, err, want)
		}
	}
	check(chat.UID{})
	for i := range 16 {
		m := message("alice", "x")
		m.Persist, m.DisableUpdateLast = i&1 == 0, i&2 == 0
		if i&4 == 0 {
			m.Flags &^= chat.Counted
		}
		m.NeedReadReceipt = i&8 == 0
		uid := e.send(m, "bob").Placed.First
		if m.Persist || !m.DisableUpdateLast || m.Flags&chat.Counted != 0 {
			check(uid)
		}
	}
	e.send(message("alice", "x"), "carol")
	own := message("bob", "x")
	own.Echo = true
	check(e.send(own, "alice").Placed.First)
}

// testWanting sees which messages want a receipt, and of whom.
func testWanting(e *env) {
	bob := channelOf("bob", chat.Direct, "alice")
	var uids []chat.UID
	for i := range 12 {
		if i%4 == 3 {
			e.clock.advance(24 * time.Hour)
		}
		m := message("alice", fmt.Sprint(i))
		m.NeedReadReceipt, m.Echo = true, true
		if i%3 == 1 {
			m.Flags &^= chat.Counted
		}
		// An app without history keeps it all the same until it was delivered.
		a := &store.Append{Message: m, Targets: []string{"bob", "alice"}, History: i%2 == 0}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
		uids = append(uids, a.Placed.First)
		for _, change := range []func(m *chat.Message){
			func(m *chat.Message) { m.NeedReadReceipt = false },
			func(m *chat.Message) { m.Persist = false },
			func(m *chat.Message) { m.ChannelType = chat.System },
		} {
			other := *m
			change(&other)
			e.send(&other, "bob")
		}
	}
	e.index()
	check := func(ch store.ChannelRef, r store.KeptRange, want ...chat.UID) {
		e.Helper()
		if r.Limit == 0 {
			r.Limit = 100
		}
		if got, err := e.Wanting(e.ctx, ch, r); err != nil || !slices.Equal(got, want) {
			e.Errorf("got %v, %v\nwant %v", got, err, want)
		}
	}
	for range 2 {
		check(bob, store.KeptRange{}, uids...)
		check(bob, store.KeptRange{Limit: 5}, uids[:5]...)
		check(bob, store.KeptRange{After: uids[6]}, uids[7:]...)
		check(bob, store.KeptRange{Missed: uids[8]}, uids[0], uids[2], uids[4], uids[6], uids[8], uids[9], uids[10], uids[11])
		check(channelOf("alice", chat.Direct, "bob"), store.KeptRange{})
		check(channelOf("alice", chat.Direct, "alice"), store.KeptRange{})
		check(channelOf("bob", chat.System, "alice"), store.KeptRange{})
		e.reopen()
	}
}
