package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// testMessages sees that every field comes back.
func testMessages(e *env) {
	full := message("alice", `{"content":"grüße"}`)
	full.Origin = chat.FromClient
	full.RequestID = "r-1"
	full.DisableUpdateLast = true
	full.NeedReadReceipt = true
	full.Echo = true
	full.VerifyBlocklist = true
	full.HasMetadata = true
	full.Stream = true
	full.Metadata = map[string]string{"a": "1", "b": "", "c+d": "ü"}
	full.Priority = chat.PriorityHigh
	full.Push = chat.PushOptions{
		Content: "hi", Data: "data", Ext: `{"x":1}`, More: `{"y":2}`, Disabled: true, ContentAvailable: true, Badge: -1, HasBadge: true,
	}
	full.Event = &chat.Event{Kind: chat.EventRecall, Operator: "o"}
	plain := message("alice", "x")
	plain.Persist = false
	system := message("shop", "y")
	system.ChannelType = chat.System
	// Every field of both structs is set in full, so that one that is added later
	// and forgotten by an engine is noticed here.
	for _, v := range []reflect.Value{reflect.ValueOf(*full), reflect.ValueOf(full.Push)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				e.Errorf("the test leaves %s unset", v.Type().Field(i).Name)
			}
		}
	}
	messages := []*chat.Message{full, plain, system, openMessage("alice", "z", true)}
	var refs []chat.UID
	for _, m := range messages {
		sent := *m
		refs = append(refs, e.send(&sent, "bob").Placed.First)
	}
	for range 2 {
		for i, m := range messages {
			got, err := e.Message(e.ctx, refs[i])
			if err != nil || !reflect.DeepEqual(got, m) {
				e.Errorf("message %d is %+v, %v, want %+v", i, got, err, m)
			}
		}
		e.reopen()
	}
	_, err := e.Message(e.ctx, chat.NewUID(e.clock.Now().UnixMilli(), chat.Direct, 77, 9))
	e.wantKind(err, chat.KindNotFound)
}

func testFind(e *env) {
	type sent struct {
		a   *store.Append
		app chat.AppID
	}
	var all []sent
	for i := range 30 {
		m := message("alice", fmt.Sprint(i))
		m.App = chat.AppID(1 + i%2)
		m.Persist = i%3 != 0
		if i%5 == 0 {
			m.ChannelType = chat.System
		}
		all = append(all, sent{e.send(m, users(1+i%20)...), m.App})
		e.send(status("alice"), "bob") // UIDs nothing is stored under
	}
	for range 2 {
		for i, s := range all {
			for n := range s.a.Targets {
				got, err := e.Find(e.ctx, s.app, s.a.Placed.First.Plus(n))
				if err != nil {
					e.Fatalf("find %d/%d: %v", i, n, err)
				}
				if got.Placed.First != s.a.Placed.First || !slices.Equal(got.Targets, s.a.Targets) ||
					!reflect.DeepEqual(got.Message, s.a.Message) || got.History != s.a.History {
					e.Fatalf("find %d/%d: %+v, want %+v", i, n, got, s.a)
				}
				e.wantEntries(got.Placed.Entries, s.a.Placed.Entries)
			}
			_, err := e.Find(e.ctx, 3-s.app, s.a.Placed.First)
			e.wantKind(err, chat.KindNotFound)
			_, err = e.Find(e.ctx, s.app, s.a.Placed.First.Plus(len(s.a.Targets)))
			e.wantKind(err, chat.KindNotFound)
		}
		e.reopen()
	}
}

// testEntriesHaveBodies reads as hard as it can while messages are appended:
// an entry that can be read is never ahead of its body, or of what Find knows.
func testEntriesHaveBodies(e *env) {
	const n = 300
	var readers sync.WaitGroup
	defer readers.Wait()
	for range 2 {
		readers.Go(func() {
			var entries []store.Entry
			for seen := uint64(0); seen < n && !e.Failed(); {
				var err error
				if entries, err = e.Read(e.ctx, app, "bob", store.Range{After: seen, Limit: n}, entries[:0]); err != nil {
					e.Error(err)
					return
				}
				for _, en := range entries {
					if _, err := e.Message(e.ctx, en.Ref); err != nil {
						e.Errorf("entry %d can be read, its body cannot: %v", en.Offset, err)
					}
					if _, err := e.Find(e.ctx, app, en.UID); err != nil {
						e.Errorf("entry %d can be read, its UID is not found: %v", en.Offset, err)
					}
					seen = en.Offset
				}
			}
		})
	}
	for i := range n {
		e.send(message("alice", fmt.Sprint(i)), "bob", "carol")
	}
}

func testRanges(e *env) {
	const n = 70
	for i := range n {
		e.send(message("alice", fmt.Sprint(i)), "bob")
		if i%30 == 29 {
			e.clock.advance(24 * time.Hour)
		}
	}
	whole := e.all(app, "bob")
	if len(whole) != n {
		e.Fatalf("%d entries, want %d", len(whole), n)
	}
	ranges := []store.Range{
		{Limit: 1}, {Limit: 10}, {Limit: n}, {Limit: 2 * n},
		{After: 1, Limit: 5}, {After: 29, Limit: 5}, {After: 30, Limit: 1}, {After: 58, Limit: 20},
		{After: n - 1, Limit: 3}, {After: n, Limit: 3}, {After: n + 10, Limit: 3},
		{Before: 1, Limit: 3}, {Before: 2, Limit: 3}, {Before: 31, Limit: 3}, {Before: n + 1, Limit: 2 * n}, {Before: n + 50, Limit: 2 * n},
		{After: 10, Before: 12, Limit: 9}, {After: 10, Before: 11, Limit: 9}, {After: 12, Before: 5, Limit: 9},
		{After: 20, Before: 65, Limit: 9}, {After: 65, Before: 69, Limit: 9}, {After: 0, Before: 0, Limit: 16},
	}
	for range 2 {
		for _, r := range ranges {
			for _, reverse := range []bool{false, true} {
				r.Reverse = reverse
				var want []store.Entry
				for _, en := range whole {
					if en.Offset > r.After && (r.Before == 0 || en.Offset < r.Before) {
						want = append(want, en)
					}
				}
				if reverse {
					slices.Reverse(want)
				}
				want = want[:min(len(want), r.Limit)]
				if got := e.read(app, "bob", r); !slices.Equal(got, want) {
					e.Errorf("%+v: got %d entries %+v, want %d", r, len(got), got, len(want))
				}
			}
		}
		e.reopen()
	}
	kept := []store.Entry{{User: "kept"}}
	got, err := e.Read(e.ctx, app, "bob", store.Range{Limit: 2}, kept)
	if err != nil || len(got) != 3 || got[0].User != "kept" {
		e.Errorf("read into a slice: %+v, %v", got, err)
	}
	if _, err := e.Read(e.ctx, app, "bob", store.Range{}, nil); chat.KindOf(err) != chat.KindInvalid {
		e.Errorf("read without a limit: %v", err)
	}
}

func testUsersDoNotMix(e *env) {
	ids := []string{"a", "ab", "abc", "b", "a\xff", "\x01", "a/b", "ü", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
	counts := map[string]int{}
	for i := range 40 {
		id := ids[i*i%len(ids)]
		e.send(message("x", id), id)
		counts[id]++
	}
	for range 2 {
		for _, id := range ids {
			got := e.all(app, id)
			if len(got) != counts[id] {
				e.Errorf("%q has %d entries, want %d", id, len(got), counts[id])
			}
			for i, en := range got {
				m, err := e.Message(e.ctx, en.Ref)
				if err != nil || m.Content != id || en.User != id || en.Offset != uint64(i+1) {
					e.Errorf("%q got %+v with %+v, %v", id, en, m, err)
				}
			}
			if back := e.read(app, id, store.Range{Limit: 100, Reverse: true}); len(back) != counts[id] {
				e.Errorf("%q has %d entries backwards, want %d", id, len(back), counts[id])
			}
		}
		e.reopen()
	}
}

func testAppsDoNotMix(e *env) {
	other := chat.AppID(2)
	for i := range 6 {
		m := message("alice", fmt.Sprint(i))
		if i%3 == 0 {
			m.App = other
		}
		e.send(m, "bob")
	}
	e.index()
	if e.head(app, "bob") != 4 || e.head(other, "bob") != 2 {
		e.Errorf("heads %d and %d, want 4 and 2", e.head(app, "bob"), e.head(other, "bob"))
	}
	for _, id := range []chat.AppID{app, other} {
		for _, en := range e.all(id, "bob") {
			if m, err := e.Message(e.ctx, en.Ref); err != nil || m.App != id {
				e.Errorf("app %d got %+v, %v", id, m, err)
			}
		}
		h, err := e.History(e.ctx, store.ChannelRef{App: id, Owner: "bob", Type: chat.Direct, Channel: "alice"}, store.HistoryRange{Limit: 100})
		if err != nil || len(h) != int(e.head(id, "bob")) {
			e.Errorf("app %d has %d messages of history, %v", id, len(h), err)
		}
	}
	if err := e.UpdateUsers(e.ctx, app, []string{"bob"}, func(u *chat.User) { u.Name = "Bob" }); err != nil {
		e.Fatal(err)
	}
	_, err := e.User(e.ctx, other, "bob")
	e.wantKind(err, chat.KindNoUser)
	if err := e.PutDevices(e.ctx, []store.UserDevice{{App: app, User: "bob", Device: store.Device{ID: "d", Offset: 3}}}); err != nil {
		e.Fatal(err)
	}
	if list, err := e.Devices(e.ctx, other, "bob"); err != nil || len(list) != 0 {
		e.Errorf("the other app has devices %v, %v", list, err)
	}
}

func testRetention(e *env) {
	// Two entries on each of twelve days.
	start := e.clock.Now()
	for day := range 12 {
		e.clock.set(start.AddDate(0, 0, day))
		e.send(message("alice", fmt.Sprint(day)), "bob")
		e.send(message("alice", fmt.Sprint(day)), "bob")
	}
	// Today is day 11, with offsets 23 and 24.
	check := func() {
		e.Helper()
		for days := 1; days <= 7; days++ {
			if got, want := e.oldest("bob", days), uint64(23-2*days); got != want {
				e.Errorf("oldest of %d days is %d, want %d", days, got, want)
			}
		}
		got := e.all(app, "bob")
		if len(got) == 0 || got[0].Offset > 9 || got[len(got)-1].Offset != 24 {
			e.Errorf("kept are %d entries", len(got))
		}
		for i, en := range got {
			if en.Offset != got[0].Offset+uint64(i) {
				e.Errorf("offset %d at %d", en.Offset, i)
			}
			if _, err := e.Message(e.ctx, en.Ref); err != nil {
				e.Errorf("body of offset %d: %v", en.Offset, err)
			}
		}
		if n := e.oldest("nobody", 7); n != 1 {
			e.Errorf("oldest of nobody is %d, want 1", n)
		}
	}
	check()
	e.expire()
	check()
	e.reopen()
	check()
	if got := e.read(app, "bob", store.Range{Limit: 3, After: 2}); len(got) != 3 || got[0].Offset > 9 {
		e.Errorf("reading from what is gone gives %+v", got)
	}

	// A message that was in no history is gone with its entry.
	m := message("alice", "short-lived")
	m.Persist = false
	ref := e.send(m, "carol").Placed.First
	e.clock.advance(10 * 24 * time.Hour)
	e.expire()
	_, err := e.Message(e.ctx, ref)
	e.wantKind(err, chat.KindNotFound)
	if e.oldest("bob", 7) != 25 || len(e.all(app, "bob")) != 0 {
		e.Errorf("oldest is %d with %d kept, want 25 and none", e.oldest("bob", 7), len(e.all(app, "bob")))
	}
}

func testSilentUser(e *env) {
	e.send(message("alice", "1"), "bob")
	e.send(message("alice", "2"), "bob")
	for i := range 3 {
		e.clock.advance(40 * 24 * time.Hour)
		e.index()
		if err := e.SetWatermark(e.ctx, testConsumer, e.LogHead()); err != nil {
			e.Fatal(err)
		}
		e.expire()
		e.reopen()
		e.send(message("alice", "other"), "carol")
		want := uint64(2 + i)
		if e.head(app, "bob") != want || e.oldest("bob", 7) != want+1 {
			e.Errorf("head %d, oldest %d, want %d and none", e.head(app, "bob"), e.oldest("bob", 7), want)
		}
		a := e.send(message("alice", "back"), "bob")
		if a.Placed.Entries[0].Offset != want+1 {
			e.Errorf("offset %d after %d", a.Placed.Entries[0].Offset, want)
		}
		e.wantEntries(e.all(app, "bob"), a.Placed.Entries)
	}
}

func testClockBackOverMidnight(e *env) {
	midnight := time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
	var want []store.Entry
	for i, at := range []time.Duration{-time.Minute, time.Second, -10 * time.Second, -10 * time.Hour, 2 * time.Second, time.Hour} {
		e.clock.set(midnight.Add(at))
		want = append(want, e.send(message("alice", fmt.Sprint(i)), "bob").Placed.Entries...)
		e.send(message("alice", fmt.Sprint(i)), fmt.Sprint("new", i))
	}
	for range 2 {
		for i, en := range want {
			if en.Offset != uint64(i+1) || i > 0 && en.UID.Compare(want[i-1].UID) <= 0 {
				e.Errorf("entry %d is %+v", i, en)
			}
		}
		e.wantEntries(e.all(app, "bob"), want)
		back := e.read(app, "bob", store.Range{Limit: 100, Reverse: true})
		slices.Reverse(back)
		e.wantEntries(back, want)
		if n := e.oldest("bob", 7); n != 1 {
			e.Errorf("oldest is %d, want 1", n)
		}
		e.reopen()
	}
	// On the eighth day after midnight only what lies before midnight is gone:
	// what came later went to the new day, whatever the clock said.
	e.clock.set(midnight.AddDate(0, 0, 7))
	e.expire()
	e.wantEntries(e.all(app, "bob"), want[1:])
	if n := e.oldest("bob", 7); n != 2 {
		e.Errorf("oldest is %d, want 2", n)
	}
}

func testClockBackOverRestart(e *env) {
	last := e.send(message("alice", "1"), "bob").Placed.First
	e.clock.advance(time.Hour)
	// Nothing of this one is stored, and its time counts all the same.
	last2 := e.send(status("alice"), "bob").Placed.First
	for range 3 {
		e.clock.advance(-2 * time.Hour)
		e.reopen()
		a := e.send(message("alice", "2"), "bob")
		if a.Placed.First.Compare(last) <= 0 || a.Placed.First.Compare(last2) <= 0 {
			e.Errorf("UID %v after %v and %v", a.Placed.First, last, last2)
		}
		last = a.Placed.First
		if m, err := e.Message(e.ctx, last); err != nil || m.Content != "2" {
			e.Errorf("message is %+v, %v", m, err)
		}
		last2 = e.send(status("alice"), "bob").Placed.First
	}
	if n := len(e.all(app, "bob")); n != 4 {
		e.Errorf("%d entries, want 4", n)
	}
}
