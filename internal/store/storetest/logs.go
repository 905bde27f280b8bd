package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func testLog(e *env) {
	if e.LogHead() != 0 {
		e.Errorf("a new store's log is at %d", e.LogHead())
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j := range 20 {
				m := message("alice", fmt.Sprint(i, j))
				if j%4 == 1 {
					m = status("alice")
				}
				if j%4 == 2 {
					m = openMessage("alice", "x", true)
				}
				m.App = chat.AppID(1 + j%2)
				if err := e.Append(e.ctx, &store.Append{Message: m, Targets: []string{"bob"}}); err != nil {
					e.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var want []store.Ref
	for _, a := range e.committed() {
		if !a.Message.Ephemeral() {
			want = append(want, store.Ref{App: a.Message.App, UID: a.Placed.First})
		}
	}
	for range 2 {
		var got []store.Ref
		for after := uint64(0); ; {
			records, err := e.ReadLog(e.ctx, after, 3)
			if err != nil {
				e.Fatal(err)
			}
			if len(records) == 0 {
				if after != e.LogHead() {
					e.Errorf("the log ends at %d, its head is %d", after, e.LogHead())
				}
				break
			}
			if len(records) > 3 {
				e.Errorf("%d records, asked for 3", len(records))
			}
			for _, r := range records {
				if r.Seq != after+1 || r.At < e.clock.Now().UnixMilli() || len(r.Refs) == 0 {
					e.Errorf("record %+v after %d", r, after)
				}
				after = r.Seq
				got = append(got, r.Refs...)
			}
		}
		if !slices.Equal(got, want) {
			e.Errorf("the log has %d requests, want %d as committed", len(got), len(want))
		}
		e.reopen()
	}
}

func testLogWait(e *env) {
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
	defer cancel()
	if err := e.WaitLog(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("waiting on an empty log: %v", err)
	}
	done := make(chan error, 3)
	for i := range uint64(3) {
		go func() { done <- e.WaitLog(e.ctx, i) }()
	}
	for range 3 {
		e.send(message("alice", "x"), "bob")
	}
	for range 3 {
		if err := <-done; err != nil {
			e.Error(err)
		}
	}
	if err := e.WaitLog(e.ctx, 2); err != nil {
		e.Error(err)
	}
}

func testLogWatermarks(e *env) {
	mark := func() uint64 {
		e.Helper()
		n, err := e.Watermark(e.ctx, testConsumer)
		if err != nil {
			e.Fatal(err)
		}
		return n
	}
	if mark() != 0 {
		e.Errorf("a new consumer is at %d", mark())
	}
	for range 5 {
		e.send(message("alice", "x"), "bob")
	}
	if err := e.SetWatermark(e.ctx, testConsumer, 3); err != nil {
		e.Fatal(err)
	}
	if err := e.SetWatermark(e.ctx, testConsumer, 2); err != nil || mark() != 3 {
		e.Errorf("watermark moved back to %d, %v", mark(), err)
	}
	e.reopen()
	if mark() != 3 {
		e.Errorf("watermark is %d after reopening, want 3", mark())
	}
	if n, err := e.Watermark(e.ctx, store.IndexConsumer); err != nil || n != 0 {
		e.Errorf("the index is at %d, %v", n, err)
	}
	if err := e.SetWatermark(e.ctx, "stranger", 1); err == nil {
		e.Error("a consumer nobody named has a watermark")
	}
}

// testLogKept sees that a consumer that is far behind finds everything.
func testLogKept(e *env) {
	for i := range 20 {
		e.send(message("alice", fmt.Sprint(i)), "bob")
	}
	e.index()
	e.clock.advance(3 * 24 * time.Hour)
	e.expire()
	e.reopen()
	records, err := e.ReadLog(e.ctx, 0, 1000)
	if err != nil || uint64(len(records)) != e.LogHead() {
		e.Errorf("%d records are kept, %v, want %d", len(records), err, e.LogHead())
	}
	for _, r := range records {
		for _, ref := range r.Refs {
			if _, err := e.Message(e.ctx, ref.UID); err != nil {
				e.Errorf("a request of the log: %v", err)
			}
		}
	}
}

func testHistory(e *env) {
	in := func(owner, channel string) store.ChannelRef {
		return store.ChannelRef{App: app, Owner: owner, Type: chat.Direct, Channel: channel}
	}
	room := store.ChannelRef{App: app, Type: chat.Open, Channel: "room"}
	want := map[store.ChannelRef][]store.HistoryEntry{}
	add := func(ch store.ChannelRef, a *store.Append, n int, kind store.EntryKind) {
		want[ch] = append([]store.HistoryEntry{{UID: a.Placed.First.Plus(n), Ref: a.Placed.First, Kind: kind}}, want[ch]...)
	}
	for i := range 30 {
		m := message("alice", fmt.Sprint(i))
		m.Echo = i%2 == 0
		a := e.send(m, "bob", "alice", "carol")
		add(in("bob", "alice"), a, 0, store.EntryIn)
		add(in("alice", "alice"), a, 1, store.EntryIn)
		add(in("carol", "alice"), a, 2, store.EntryIn)
		if m.Echo {
			add(in("alice", "bob"), a, 0, store.EntryOut)
			add(in("alice", "carol"), a, 2, store.EntryOut)
		}
		add(room, e.send(openMessage("bob", fmt.Sprint(i), true), "elsewhere", "room"), 1, store.EntryIn)

		hidden := message("alice", "not for history")
		hidden.Persist = false
		e.send(hidden, "bob", "carol")
		if i == 10 {
			e.clock.advance(30 * 24 * time.Hour) // another month
		}
	}
	system := message("shop", "sale")
	system.ChannelType = chat.System
	a := e.send(system, "bob")
	add(store.ChannelRef{App: app, Owner: "bob", Type: chat.System, Channel: "shop"}, a, 0, store.EntryIn)
	e.index()
	for range 2 {
		for ch, all := range want {
			got, err := e.History(e.ctx, ch, store.HistoryRange{Limit: 1000})
			if err != nil || !slices.Equal(got, all) {
				e.Errorf("history of %+v has %d messages, %v, want %d", ch, len(got), err, len(all))
			}
			// In pages it is the same.
			var pages []store.HistoryEntry
			for before := (chat.UID{}); ; {
				page, err := e.History(e.ctx, ch, store.HistoryRange{Before: before, Limit: 4})
				if err != nil {
					e.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				pages = append(pages, page...)
				before = page[len(page)-1].UID
			}
			if !slices.Equal(pages, all) {
				e.Errorf("history of %+v has %d messages in pages, want %d", ch, len(pages), len(all))
			}
		}
		for _, ch := range []store.ChannelRef{in("dave", "alice"), in("bob", "alic"), in("bo", "alice"), {App: 2, Owner: "bob", Type: chat.Direct, Channel: "alice"}} {
			if got, err := e.History(e.ctx, ch, store.HistoryRange{Limit: 10}); err != nil || len(got) != 0 {
				e.Errorf("history of %+v: %v, %v", ch, got, err)
			}
		}
		e.reopen()
	}
}

// testHistoryRetention sees that history outlives missed messages, and not for
// ever.
func testHistoryRetention(e *env) {
	a := e.send(message("alice", "kept"), "bob")
	o := e.send(openMessage("alice", "kept", true), "room")
	e.index()
	ch := store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}
	room := store.ChannelRef{App: app, Type: chat.Open, Channel: "room"}
	check := func(ch store.ChannelRef, ref chat.UID, want int) {
		e.Helper()
		got, err := e.History(e.ctx, ch, store.HistoryRange{Limit: 10})
		if err != nil || len(got) != want {
			e.Errorf("history of %v has %d messages, %v, want %d", ch.Type, len(got), err, want)
		}
		if _, err := e.Message(e.ctx, ref); (err == nil) != (want > 0) {
			e.Errorf("body of %v: %v", ch.Type, err)
		}
	}
	for _, step := range []struct{ days, direct, open int }{{40, 1, 1}, {90, 1, 0}, {200, 0, 0}} {
		e.clock.advance(time.Duration(step.days) * 24 * time.Hour)
		e.expire()
		check(ch, a.Placed.First, step.direct)
		check(room, o.Placed.First, step.open)
	}
}

func testChannels(e *env) {
	where := func(a *store.Append, n int, kind store.EntryKind) store.HistoryEntry {
		return store.HistoryEntry{UID: a.Placed.First.Plus(n), Ref: a.Placed.First, Kind: kind}
	}
	list := func(user string, limit int) []store.ChannelState {
		e.Helper()
		e.index()
		got, err := e.Channels(e.ctx, app, user, limit)
		if err != nil {
			e.Fatal(err)
		}
		return got
	}
	a1 := e.send(message("alice", "1"), "bob", "carol")
	sys := message("alice", "2")
	sys.ChannelType = chat.System
	a2 := e.send(sys, "bob")
	a3 := e.send(message("carol", "3"), "bob")
	want := []store.ChannelState{
		{Type: chat.Direct, Channel: "carol", Last: where(a3, 0, store.EntryIn)},
		{Type: chat.System, Channel: "alice", Last: where(a2, 0, store.EntryIn)},
		{Type: chat.Direct, Channel: "alice", Last: where(a1, 0, store.EntryIn)},
	}
	if got := list("bob", 10); !reflect.DeepEqual(got, want) {
		e.Errorf("got %+v, want %+v", got, want)
	}
	// Neither of these moves a channel: one asked not to, one is not shown in
	// lists, one is not kept at all.
	quiet := message("alice", "4")
	quiet.DisableUpdateLast = true
	want[2].Quiet = e.send(quiet, "bob").Placed.First
	signal := message("alice", "5")
	signal.Flags = chat.Missed
	e.send(signal, "bob")
	e.send(status("alice"), "bob")
	e.send(openMessage("alice", "6", true), "bob")
	if got := list("bob", 10); !reflect.DeepEqual(got, want) {
		e.Errorf("got %+v, want %+v", got, want)
	}
	// The list does not depend on history.
	out := message("bob", "7")
	out.Echo, out.Persist = true, false
	a7 := e.send(out, "alice", "bob")
	want = []store.ChannelState{
		{Type: chat.Direct, Channel: "bob", Last: where(a7, 1, store.EntryIn)},
		{Type: chat.Direct, Channel: "alice", Last: where(a7, 0, store.EntryOut), Quiet: want[2].Quiet},
		want[0], want[1],
	}
	if got := list("bob", 10); !reflect.DeepEqual(got, want) {
		e.Errorf("got %+v, want %+v", got, want)
	}
	e.reopen()
	if got := list("bob", 2); !reflect.DeepEqual(got, want[:2]) {
		e.Errorf("got %+v, want %+v", got, want[:2])
	}
	if got := list("nobody", 2); len(got) != 0 {
		e.Errorf("nobody has %+v", got)
	}
}

// testIndexBarrier sees that reads wait for what was accepted before them.
func testIndexBarrier(e *env) {
	a := e.send(message("alice", "x"), "bob")
	ch := store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := e.History(ctx, ch, store.HistoryRange{Limit: 1}); !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("history before the index came by: %v", err)
	}
	if _, err := e.Channels(ctx, app, "bob", 1); !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("channels before the index came by: %v", err)
	}
	type result struct {
		list []store.HistoryEntry
		err  error
	}
	done := make(chan result)
	go func() {
		list, err := e.History(e.ctx, ch, store.HistoryRange{Limit: 1})
		done <- result{list, err}
	}()
	time.Sleep(5 * time.Millisecond)
	e.index()
	if r := <-done; r.err != nil || len(r.list) != 1 || r.list[0].UID != a.Placed.First {
		e.Errorf("got %+v", r)
	}
	// It waits for the newest message, not just for any.
	e.send(message("alice", "y"), "bob")
	ctx, cancel = context.WithTimeout(e.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := e.History(ctx, ch, store.HistoryRange{Limit: 1}); !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("history before the index came by again: %v", err)
	}
}

// testIndexTwice sees that a stretch of the log can come again.
func testIndexTwice(e *env) {
	for i := range 3 {
		e.send(message("alice", fmt.Sprint(i)), "bob")
	}
	records, err := e.ReadLog(e.ctx, 0, 100)
	if err != nil {
		e.Fatal(err)
	}
	for range 2 {
		if err := e.IndexLog(e.ctx, records); err != nil {
			e.Fatal(err)
		}
		last := e.send(message("alice", "later"), "bob")
		more, err := e.ReadLog(e.ctx, 0, 100)
		if err != nil {
			e.Fatal(err)
		}
		if err := e.IndexLog(e.ctx, more); err != nil {
			e.Fatal(err)
		}
		list, err := e.Channels(e.ctx, app, "bob", 5)
		if err != nil || len(list) != 1 || list[0].Last.UID != last.Placed.First {
			e.Errorf("channels %+v, %v", list, err)
		}
		h, err := e.History(e.ctx, store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}, store.HistoryRange{Limit: 100})
		if err != nil || uint64(len(h)) != e.head(app, "bob") {
			e.Errorf("%d messages of history, %v, want %d", len(h), err, e.head(app, "bob"))
		}
	}
}
