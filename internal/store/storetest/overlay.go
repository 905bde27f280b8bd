package storetest

import (
	"math"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// event is the message that carries ev, from one side of a direct channel.
func event(from string, ev *chat.Event) *chat.Message {
	return &chat.Message{App: app, ChannelType: chat.Direct, Flags: chat.Missed, From: from, Event: ev}
}

func (e *env) overlay(id chat.AppID, uid chat.UID) *chat.State {
	e.Helper()
	list, err := e.Overlays(e.ctx, id, []chat.UID{uid})
	if err != nil || len(list) != 1 {
		e.Fatalf("state of %s: %v, %v", uid, list, err)
	}
	return list[0]
}

// testEvents sees that an event is in timelines as a message is, and nowhere
// else.
func testEvents(e *env) {
	sent := message("alice", "hello")
	sent.Echo = true
	first := e.send(sent, "bob", "carol")
	var all []chat.Event
	var want []store.Entry
	for _, ev := range []chat.Event{
		{Kind: chat.EventRecall, UID: first.Placed.First, Operator: "alice", At: 17, Admin: true, Delete: true, Extra: "x"},
		{Kind: chat.EventUpdate, UID: first.Placed.First.Plus(1), Operator: "alice", At: 18, Content: "new"},
		{Kind: chat.EventMetadata, UID: first.Placed.First, Operator: "bob", At: 19, Set: map[string]string{"a": "", "b": "2"}, Removed: []string{"c", "d"}},
		{Kind: chat.EventReceipt, UID: first.Placed.First, Operator: "bob", At: 20},
		{Kind: chat.EventRead, At: 21, ChannelType: chat.Direct, Channel: "alice", UpTo: first.Placed.First},
		{Kind: chat.EventDelete, At: 22, ChannelType: chat.System, Channel: "shop", UIDs: []chat.UID{first.Placed.First.Plus(1), first.Placed.First}},
	} {
		m := event("alice", &ev)
		m.Echo = true
		a := e.send(m, "bob")
		all = append(all, ev)
		want = append(want, a.Placed.Entries...)
		if len(a.Placed.Entries) != 2 || a.Placed.Entries[1].Peer != "bob" || a.Placed.Entries[1].Kind != store.EntryOut {
			e.Fatalf("entries %+v", a.Placed.Entries)
		}
		if given, err := e.Given(e.ctx, a.Placed.First); err != nil || len(given) != len(a.Targets) || given[0].ID != a.Targets[0] || given[0].Offset == 0 {
			e.Errorf("the event was given to %+v, %v", given, err)
		}
		if _, err := e.Find(e.ctx, app, a.Placed.First); chat.KindOf(err) != chat.KindNotFound {
			e.Errorf("an event is found as a message: %v", err)
		}
	}
	e.index()
	for range 2 {
		entries := append(e.all(app, "bob")[1:], e.all(app, "alice")[2:]...)
		e.wantEntries(entries, append(everyOther(want, 0), everyOther(want, 1)...))
		for i, en := range e.all(app, "bob")[1:] {
			m, err := e.Message(e.ctx, en.Ref)
			if err != nil || m.Event == nil || !reflect.DeepEqual(*m.Event, all[i]) || m.From != "alice" || m.App != app {
				e.Errorf("event %d is %+v, %v", i, m, err)
			}
		}
		h, err := e.History(e.ctx, store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}, store.HistoryRange{Limit: 10})
		if err != nil || len(h) != 1 {
			e.Errorf("history has %d entries, %v", len(h), err)
		}
		list, err := e.Channels(e.ctx, app, "bob", 10)
		if err != nil || len(list) != 1 || list[0].Last.UID != first.Placed.First {
			e.Errorf("channels are %+v, %v", list, err)
		}
		if found, err := e.Find(e.ctx, app, first.Placed.First.Plus(1)); err != nil || found.Message.Content != "hello" {
			e.Errorf("the message is %+v, %v", found, err)
		}
		e.reopen()
	}
}

func everyOther[T any](list []T, from int) (out []T) {
	for i := from; i < len(list); i += 2 {
		out = append(out, list[i])
	}
	return out
}

func testOverlays(e *env) {
	a := e.send(message("alice", "x"), "bob", "carol", "dave")
	o := e.send(openMessage("alice", "y", true), "room")
	bob, carol, dave, room := a.Placed.First, a.Placed.First.Plus(1), a.Placed.First.Plus(2), o.Placed.First
	change := func(c store.StateChange) {
		e.Helper()
		ap := &store.Append{Message: event("alice", nil), States: []store.StateChange{c}}
		if err := e.Append(e.ctx, ap); err != nil {
			e.Fatal(err)
		}
		if len(ap.Placed.Entries) != 0 {
			e.Errorf("state alone gave entries %+v", ap.Placed.Entries)
		}
	}
	pairs := func(kv ...string) map[string]chat.Pair {
		m := map[string]chat.Pair{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = chat.Pair{Value: kv[i+1], At: int64(i + 1), Version: uint64(i + 1), Removed: kv[i+1] == ""}
		}
		return m
	}
	want := map[chat.UID]*chat.State{}
	put := func(uid chat.UID, st chat.State, keys ...string) {
		e.Helper()
		change(store.StateChange{UID: uid, History: true, State: &st, Keys: keys})
		want[uid] = &st
	}
	check := func() {
		e.Helper()
		uids := []chat.UID{dave, room, bob, carol, a.Placed.First.Plus(3)}
		list, err := e.Overlays(e.ctx, app, uids)
		if err != nil || len(list) != len(uids) {
			e.Fatalf("%v, %v", list, err)
		}
		for i, uid := range uids {
			if !reflect.DeepEqual(list[i], want[uid]) {
				e.Errorf("state %d is %+v, want %+v", i, list[i], want[uid])
			}
		}
	}
	head, log := e.head(app, "bob"), e.LogHead()
	check()
	put(carol, chat.State{ReadAt: 4, Recall: &chat.Recall{Operator: "alice", At: 5, Admin: true, Extra: "e", DisableUpdateLast: true}})
	put(room, chat.State{Recall: &chat.Recall{Operator: "bob", At: 6, Delete: true}, Edit: &chat.Edit{Content: "new", At: 7}})
	put(bob, chat.State{Metadata: pairs("a", "1", "b", "2", "c", "3"), Version: 3, Told: 1, ToldAt: 99, Operator: "o", Quiet: "q"}, "a", "b", "c")
	check()
	// Only the keys named are written; one that is not there any more goes.
	now := pairs("a", "1", "c", "")
	put(bob, chat.State{Metadata: now, Version: 4, Edit: &chat.Edit{Content: "e", At: 1}}, "b", "c")
	check()
	e.reopen()
	check()
	if e.head(app, "bob") != head || e.LogHead() != log {
		e.Error("changes of state show in the timeline or in the log")
	}
	// Another app sees none of it, and cannot write over it.
	if st := e.overlay(2, bob); st != nil {
		e.Errorf("another app reads %+v", st)
	}
	// State lives as long as what it lies over.
	e.clock.advance(20 * 24 * time.Hour)
	e.index()
	e.expire()
	check()
	e.clock.advance(100 * 24 * time.Hour)
	e.expire()
	want[room] = nil
	check()
	e.clock.advance(150 * 24 * time.Hour)
	e.expire()
	clear(want)
	check()
	short := message("alice", "short")
	short.Persist = false
	s := e.send(short, "bob")
	change(store.StateChange{UID: s.Placed.First, State: &chat.State{Edit: &chat.Edit{Content: "e", At: 1}}})
	if e.overlay(app, s.Placed.First) == nil {
		e.Error("a message that is in no history has no state")
	}
	e.clock.advance(10 * 24 * time.Hour)
	e.expire()
	if st := e.overlay(app, s.Placed.First); st != nil {
		e.Errorf("it outlived its message: %+v", st)
	}
	e.wantKind(e.Append(e.ctx, &store.Append{Message: event("alice", nil)}), chat.KindInvalid)
}

// testDue sees that what is due is listed in order, moves with the state, and
// can be taken back.
func testDue(e *env) {
	a := e.send(message("alice", "x"), "bob", "carol", "dave")
	set := func(n int, was, due int64) {
		e.Helper()
		c := store.StateChange{UID: a.Placed.First.Plus(n), History: true, State: &chat.State{Due: due, Version: 1}, WasDue: was}
		if due < 0 {
			c.State = nil
		}
		if err := e.Append(e.ctx, &store.Append{Message: event("alice", nil), States: []store.StateChange{c}}); err != nil {
			e.Fatal(err)
		}
	}
	check := func(until int64, limit int, want ...int64) {
		e.Helper()
		list, err := e.Due(e.ctx, until, limit)
		var got []int64
		for _, d := range list {
			if d.App != app || d.UID.IndexIn(a.Placed.First, 3) < 0 {
				e.Errorf("%+v", d)
			}
			got = append(got, d.Due)
		}
		if err != nil || !slices.Equal(got, want) {
			e.Errorf("due until %d: %v, %v, want %v", until, got, err, want)
		}
	}
	check(1000, 10)
	set(0, 0, 300)
	set(1, 0, 100)
	set(2, 0, 200)
	check(1000, 10, 100, 200, 300)
	check(1000, 2, 100, 200)
	check(math.MaxInt64, 10, 100, 200, 300)
	check(200, 10, 100, 200)
	set(1, 100, 0)
	set(0, 300, 50)
	check(1000, 10, 50, 200)
	e.reopen()
	check(1000, 10, 50, 200)
	set(2, 200, -1)
	check(1000, 10, 50)
	if st := e.overlay(app, a.Placed.First.Plus(2)); st == nil || st.Version != 1 {
		e.Errorf("taking back what was due changed the state: %+v", st)
	}
}

// testStateWithEvent cuts the power while states change together with events: a
// state is there exactly when the event that tells of it is, and nobody who reads
// sees one that a crash takes back.
func testStateWithEvent(e *env) {
	if e.place.Crash == nil {
		e.Skip("this place cannot crash")
	}
	a := e.send(message("alice", "x"), users(8)...)
	type seen struct {
		mu sync.Mutex
		at map[chat.UID]uint64
	}
	for range 4 {
		var s = seen{at: map[chat.UID]uint64{}}
		stop := make(chan struct{})
		var readers, writers sync.WaitGroup
		for i, user := range a.Targets {
			uid := a.Placed.First.Plus(i)
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					list, err := e.Overlays(e.ctx, app, []chat.UID{uid})
					if err == nil && list[0] != nil {
						s.mu.Lock()
						s.at[uid] = max(s.at[uid], list[0].Version)
						s.mu.Unlock()
					}
				}
			})
			writers.Go(func() {
				version := uint64(0)
				if st := e.overlay(app, uid); st != nil {
					version = st.Version
				}
				for range 20 {
					version++
					ap := &store.Append{
						Message: event("alice", &chat.Event{Kind: chat.EventUpdate, UID: uid}), Targets: []string{user},
						States: []store.StateChange{{UID: uid, History: true, State: &chat.State{Version: version}}},
					}
					if err := e.Append(e.ctx, ap); err != nil {
						e.Error(err)
					}
				}
			})
		}
		writers.Wait()
		close(stop)
		readers.Wait()
		e.place.Crash(e.Store)
		e.open()
		for i, user := range a.Targets {
			uid := a.Placed.First.Plus(i)
			st := e.overlay(app, uid)
			if st == nil || st.Version != e.head(app, user)-1 || st.Version < s.at[uid] {
				e.Errorf("%s has %d events, and state %+v; %d was read", user, e.head(app, user)-1, st, s.at[uid])
			}
		}
	}
}

// testStreams sees that a stream's chunks are read as one text, whatever is done
// to the state beside them, and that the text goes with its message.
func testStreams(e *env) {
	m := message("bot", "first")
	m.Stream = true
	// The message of a stream is sent with its state, under the UID it gets.
	a := &store.Append{Message: m, Targets: []string{"bob"}, History: true, States: []store.StateChange{
		{History: true, State: &chat.State{Stream: &chat.Stream{Seq: 1, Bytes: 5, LastAt: 9, Idle: 60}, Due: 70}},
	}}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatal(err)
	}
	uid := a.Placed.First
	other := e.send(message("bot", "x"), "bob").Placed.First
	change := func(c store.StateChange) {
		e.Helper()
		c.UID, c.History, c.WasDue = uid, true, 70
		ap := &store.Append{Message: event("bot", &chat.Event{Kind: chat.EventStream, UID: uid}), Targets: []string{"bob"}, States: []store.StateChange{c}}
		ap.Message.Flags = 0
		if err := e.Append(e.ctx, ap); err != nil {
			e.Fatal(err)
		}
		if len(ap.Placed.Entries) != 0 {
			e.Errorf("a chunk gave entries %+v", ap.Placed.Entries)
		}
	}
	check := func(want *chat.State) {
		e.Helper()
		for range 2 {
			list, err := e.Overlays(e.ctx, app, []chat.UID{other, uid})
			if err != nil || list[0] != nil || !reflect.DeepEqual(list[1], want) {
				e.Errorf("%v: state is %+v, want %+v", err, list[1], want)
			}
			bare := *want
			if want.Stream != nil {
				s := *want.Stream
				s.Text, bare.Stream = "", &s
			}
			if got, err := e.BareOverlay(e.ctx, app, uid); err != nil || !reflect.DeepEqual(got, &bare) {
				e.Errorf("%v: without its text it is %+v, want %+v", err, got, bare)
			}
			if got, err := e.BareOverlay(e.ctx, 2, uid); err != nil || got != nil {
				e.Errorf("another app reads %+v, %v", got, err)
			}
			e.reopen()
		}
	}
	st := chat.State{Stream: &chat.Stream{Seq: 1, Bytes: 5, LastAt: 9, Idle: 60}, Due: 70}
	check(&st)
	text := ""
	for seq := uint64(2); seq < 300; seq++ {
		chunk := string(rune('a' + seq%26))
		text += chunk
		next := *st.Stream
		next.Seq, next.Bytes, next.LastAt, next.Text = seq, 5+len(text), int64(seq), "is not looked at"
		st.Stream = &next
		state := st
		change(store.StateChange{State: &state, Chunk: chunk})
		next.Text = text
		if seq == 5 {
			check(&st)
		}
	}
	// A pair of metadata changes beside it, and an empty chunk adds nothing.
	st.Metadata, st.Version = map[string]chat.Pair{"k": {Value: "v", At: 1, Version: 1}}, 1
	change(store.StateChange{State: &st, Keys: []string{"k"}})
	check(&st)
	// In the end it is one piece, which whatever changes later leaves alone.
	end := *st.Stream
	end.Seq, end.Complete, end.Interrupted, end.Reason, end.HasReason = 301, true, true, -3, true
	end.Text = text + "!"
	st.Stream = &end
	change(store.StateChange{State: &st, Chunk: end.Text, Joined: true})
	check(&st)
	st.Edit = &chat.Edit{Content: "new", At: 3}
	change(store.StateChange{State: &st})
	check(&st)
	e.expire()
	check(&st)
	// With an empty piece nothing is left of it.
	recalled := chat.State{Recall: &chat.Recall{Operator: "bot", At: 4}}
	change(store.StateChange{State: &recalled, Keys: []string{"k"}, Joined: true})
	check(&recalled)
	again := chat.State{Stream: &chat.Stream{Seq: 1}}
	change(store.StateChange{State: &again})
	check(&again)
	change(store.StateChange{State: &chat.State{Stream: &chat.Stream{Seq: 2}}, Chunk: "x"})
	e.clock.advance(300 * 24 * time.Hour)
	e.index()
	e.expire()
	if st := e.overlay(app, uid); st != nil {
		e.Errorf("it outlived its message: %+v", st)
	}
}

// testStreamCrash cuts the power again and again while streams grow: what was
// answered or read of a text is there, and what is there is the beginning of what
// was sent.
func testStreamCrash(e *env) {
	if e.place.Crash == nil {
		e.Skip("this place cannot crash")
	}
	const streams, chunks = 6, 25
	a := e.send(message("bot", "x"), users(streams)...)
	text := func(n int) (s string) {
		for i := range n {
			s += string(rune('a' + i%26))
		}
		return s
	}
	for round := range 3 {
		var mu sync.Mutex
		known := map[chat.UID]int{} // how much of the text was answered or read
		note := func(uid chat.UID, n int) {
			mu.Lock()
			defer mu.Unlock()
			known[uid] = max(known[uid], n)
		}
		stop := make(chan struct{})
		var readers, writers sync.WaitGroup
		for i, user := range a.Targets {
			uid := a.Placed.First.Plus(i)
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					list, err := e.Overlays(e.ctx, app, []chat.UID{uid})
					if err == nil && list[0] != nil {
						note(uid, len(list[0].Stream.Text))
					}
				}
			})
			writers.Go(func() {
				from := 0
				if st := e.overlay(app, uid); st != nil {
					from = len(st.Stream.Text)
				}
				for n := from; n < from+chunks; n++ {
					// Some are joined, as at the end of a stream.
					c := store.StateChange{UID: uid, History: true, State: &chat.State{Stream: &chat.Stream{Seq: uint64(n + 1)}}}
					if c.Chunk = text(n + 1)[n:]; n%10 == 9 {
						c.Chunk, c.Joined = text(n+1), true
					}
					m := event("bot", &chat.Event{Kind: chat.EventStream, UID: uid})
					m.Flags = 0
					if err := e.Append(e.ctx, &store.Append{Message: m, Targets: []string{user}, States: []store.StateChange{c}}); err != nil {
						e.Error(err)
						return
					}
					note(uid, n+1)
				}
			})
		}
		writers.Wait()
		close(stop)
		readers.Wait()
		e.place.Crash(e.Store)
		e.open()
		for i := range a.Targets {
			uid := a.Placed.First.Plus(i)
			st := e.overlay(app, uid)
			if st == nil || st.Stream == nil || len(st.Stream.Text) < known[uid] || st.Stream.Text != text(len(st.Stream.Text)) || int(st.Stream.Seq) != len(st.Stream.Text) {
				e.Errorf("round %d: %d letters were answered or read, and the stream is %+v", round, known[uid], st)
			}
		}
	}
}
