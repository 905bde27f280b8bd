package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func testAppendPlaces(e *env) {
	echoed := func(m *chat.Message) *chat.Message { m.Echo = true; return m }
	system := message("shop", "{}")
	system.ChannelType = chat.System
	type row struct {
		user string
		peer string // set for a copy
		nth  int    // target
	}
	many := users(40)
	var manyRows []row
	for i, u := range many {
		manyRows = append(manyRows, row{u, "", i})
	}
	tests := []struct {
		name    string
		message *chat.Message
		targets []string
		want    []row
	}{
		{"one", message("alice", "a"), []string{"bob"}, []row{{"bob", "", 0}}},
		{"three", message("alice", "b"), []string{"bob", "carol", "dave"}, []row{{"bob", "", 0}, {"carol", "", 1}, {"dave", "", 2}}},
		{"forty", message("alice", "c"), many, manyRows},
		{"system", system, []string{"bob", "shop"}, []row{{"bob", "", 0}, {"shop", "", 1}}},
		{"self", message("alice", "d"), []string{"alice"}, []row{{"alice", "", 0}}},
		{"echo", echoed(message("alice", "e")), []string{"bob", "carol"}, []row{{"bob", "", 0}, {"alice", "bob", 0}, {"carol", "", 1}, {"alice", "carol", 1}}},
		{"echo to self", echoed(message("alice", "f")), []string{"alice"}, []row{{"alice", "", 0}}},
		{"echo, self first", echoed(message("alice", "g")), []string{"alice", "bob"}, []row{{"alice", "", 0}, {"bob", "", 1}, {"alice", "bob", 1}}},
		{"echo, self last", echoed(message("alice", "h")), []string{"bob", "alice"}, []row{{"bob", "", 0}, {"alice", "bob", 0}, {"alice", "", 1}}},
		{"echo to forty", echoed(message("user7", "i")), many, func() (rows []row) {
			for i, u := range many {
				rows = append(rows, row{u, "", i})
				if u != "user7" {
					rows = append(rows, row{"user7", u, i})
				}
			}
			return rows
		}()},
	}
	timelines := map[string][]store.Entry{}
	for _, tt := range tests {
		a := e.send(tt.message, tt.targets...)
		first := a.Placed.First
		// Where types alternate within a millisecond, order takes the next one.
		if ahead := first.Millis() - e.clock.Now().UnixMilli(); ahead < 0 || ahead > 5 {
			e.Errorf("%s: sent %d ms after what the clock shows", tt.name, ahead)
		}
		if first.ChannelType() != tt.message.ChannelType {
			e.Errorf("%s: UID of channel type %v", tt.name, first.ChannelType())
		}
		// The order of entries in Placed is the engine's, but not within a user.
		mine := map[string][]store.Entry{}
		for _, r := range tt.want {
			kind := store.EntryIn
			if r.peer != "" {
				kind = store.EntryOut
			}
			mine[r.user] = append(mine[r.user], store.Entry{
				User: r.user, Offset: uint64(len(timelines[r.user]) + len(mine[r.user]) + 1),
				UID: first.Plus(r.nth), Ref: first, Peer: r.peer, Kind: kind,
			})
		}
		got := map[string][]store.Entry{}
		for _, en := range a.Placed.Entries {
			got[en.User] = append(got[en.User], en)
		}
		if !reflect.DeepEqual(got, mine) {
			e.Errorf("%s: placed\n%+v\nwant\n%+v", tt.name, got, mine)
		}
		for user, entries := range mine {
			timelines[user] = append(timelines[user], entries...)
		}
		found, err := e.Find(e.ctx, app, first.Plus(len(tt.targets)-1))
		if err != nil {
			e.Errorf("%s: find: %v", tt.name, err)
			continue
		}
		if !slices.Equal(found.Targets, tt.targets) || found.Placed.First != first {
			e.Errorf("%s: found %v, %v", tt.name, found.Targets, found.Placed.First)
		}
		e.wantEntries(found.Placed.Entries, a.Placed.Entries)
		given, err := e.Given(e.ctx, first)
		if err != nil || len(given) != len(tt.targets) {
			e.Fatalf("%s: given to %+v, %v", tt.name, given, err)
		}
		for _, entry := range a.Placed.Entries {
			i := entry.UID.IndexIn(first, len(given))
			if entry.Kind == store.EntryIn && given[i] != (store.Target{ID: entry.User, Offset: entry.Offset}) {
				e.Errorf("%s: given[%d] is %+v, want %+v", tt.name, i, given[i], entry)
			}
		}
	}
	for range 2 {
		for user, want := range timelines {
			if n := e.head(app, user); n != uint64(len(want)) {
				e.Errorf("head of %s is %d, want %d", user, n, len(want))
			}
			e.wantEntries(e.all(app, user), want)
		}
		e.reopen()
	}
}

// testAppendOrder has many writers at work on the same few users.
func testAppendOrder(e *env) {
	const writers, each = 8, 60
	ids := users(5)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range each {
				content := fmt.Sprintf("%d/%d", w, i)
				m := message(ids[rng.IntN(len(ids))], content)
				switch rng.IntN(5) {
				case 0:
					m.ChannelType = chat.System
				case 1:
					m = status("x")
				case 2:
					m.Echo = true
				}
				targets := slices.Clone(ids[rng.IntN(len(ids)):])
				a := &store.Append{Message: m, Targets: targets}
				if err := e.Append(e.ctx, a); err != nil {
					e.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	// Whoever reads along never sees a gap and never something else later.
	stop := make(chan struct{})
	seen := map[string][]store.Entry{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	for _, id := range ids {
		readers.Go(func() {
			var mine []store.Entry
			for last := false; ; {
				got, err := e.Read(e.ctx, app, id, store.Range{After: uint64(len(mine)), Limit: 50}, nil)
				if err != nil {
					e.Errorf("read: %v", err)
					return
				}
				for _, en := range got {
					if en.Offset != uint64(len(mine)+1) {
						e.Errorf("%s: offset %d after %d", id, en.Offset, len(mine))
						return
					}
					mine = append(mine, en)
				}
				if len(got) > 0 {
					continue
				}
				if last {
					break
				}
				select {
				case <-stop:
					last = true
				case <-time.After(time.Millisecond):
				}
			}
			mu.Lock()
			seen[id] = mine
			mu.Unlock()
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()

	commits := e.committed()
	if len(commits) != writers*each {
		e.Fatalf("%d appends committed, want %d", len(commits), writers*each)
	}
	var last chat.UID
	want := map[string][]store.Entry{}
	for _, a := range commits {
		if a.Placed.First.Compare(last) <= 0 {
			e.Fatalf("UID %v committed after %v", a.Placed.First, last)
		}
		last = a.Placed.First.Plus(len(a.Targets) - 1)
		for _, en := range a.Placed.Entries {
			want[en.User] = append(want[en.User], en)
		}
	}
	for _, id := range ids {
		for i, en := range want[id] {
			if en.Offset != uint64(i+1) {
				e.Fatalf("%s: committed offset %d as number %d", id, en.Offset, i+1)
			}
		}
		e.wantEntries(e.all(app, id), want[id])
		e.wantEntries(seen[id], want[id])
	}
}

func testAppendEphemeral(e *env) {
	before := e.send(message("alice", "kept"), "bob")
	log := e.LogHead()
	m := status("alice")
	m.Echo = true
	a := e.send(m, "bob", "carol")
	if len(a.Placed.Entries) != 0 {
		e.Errorf("entries %v of a status message", a.Placed.Entries)
	}
	if a.Placed.First.Compare(before.Placed.First) <= 0 {
		e.Errorf("UID %v after %v", a.Placed.First, before.Placed.First)
	}
	if e.head(app, "bob") != 1 || e.head(app, "carol") != 0 || e.head(app, "alice") != 0 {
		e.Error("a status message moved a head")
	}
	if e.LogHead() != log {
		e.Error("a status message is in the log")
	}
	_, err := e.Message(e.ctx, a.Placed.First)
	e.wantKind(err, chat.KindNotFound)
	_, err = e.Find(e.ctx, app, a.Placed.First)
	e.wantKind(err, chat.KindNotFound)
	_, err = e.Given(e.ctx, a.Placed.First)
	e.wantKind(err, chat.KindNotFound)
	if got := e.committed(); len(got) != 2 || got[1] != a {
		e.Errorf("OnCommit was told of %d appends", len(got))
	}
	// Idempotency holds for what leaves nothing else behind too.
	o := &store.Once{Key: [16]byte{1}, Body: [16]byte{2}}
	b := &store.Append{Message: status("alice"), Targets: []string{"bob"}, Once: o}
	if err := e.Append(e.ctx, b); err != nil {
		e.Fatal(err)
	}
	e.reopen()
	got, err := e.Once(e.ctx, o.Key)
	if err != nil || got == nil || got.First != b.Placed.First {
		e.Errorf("once of a status message is %+v, %v", got, err)
	}
}

func testAppendOpen(e *env) {
	log := e.LogHead()
	a := e.send(openMessage("alice", "hello", true), "room1", "room2")
	if len(a.Placed.Entries) != 0 || e.head(app, "room1") != 0 || e.head(app, "alice") != 0 {
		e.Error("an open channel message is in a timeline")
	}
	m, err := e.Message(e.ctx, a.Placed.First)
	if err != nil || m.Content != "hello" {
		e.Errorf("message is %+v, %v", m, err)
	}
	if e.LogHead() != log+1 {
		e.Error("an open channel message is not in the log")
	}
	found, err := e.Find(e.ctx, app, a.Placed.First.Plus(1))
	if err != nil || !slices.Equal(found.Targets, a.Targets) || len(found.Placed.Entries) != 0 {
		e.Errorf("found %+v, %v", found, err)
	}
	given, err := e.Given(e.ctx, a.Placed.First)
	if err != nil || len(given) != len(a.Targets) || given[1] != (store.Target{ID: a.Targets[1]}) {
		e.Errorf("given to %+v, %v", given, err)
	}
	b := e.send(openMessage("alice", "gone", false), "room1")
	if _, err := e.Message(e.ctx, b.Placed.First); chat.KindOf(err) != chat.KindNotFound {
		e.Errorf("open message that is not to be kept: %v", err)
	}
}

func testAppendOrderAcrossTypes(e *env) {
	var last chat.UID
	types := []chat.ChannelType{chat.System, chat.Direct, chat.Open, chat.Direct, chat.System, chat.Open}
	for i := range 60 {
		m := message("alice", "x")
		m.ChannelType = types[i%len(types)]
		a := e.send(m, "bob", "carol")
		if a.Placed.First.Compare(last) <= 0 {
			e.Fatalf("UID %v of type %v after %v", a.Placed.First, m.ChannelType, last)
		}
		last = a.Placed.First.Plus(1)
		if i%20 == 19 {
			e.clock.advance(time.Millisecond)
		}
	}
}

func testAppendDone(e *env) {
	var mu sync.Mutex
	calls := map[string][]error{}
	send := func(name string, targets ...string) error {
		return e.Append(e.ctx, &store.Append{
			Message: message("alice", name), Targets: targets,
			Done: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				calls[name] = append(calls[name], err)
			},
		})
	}
	if err := send("good", "bob"); err != nil {
		e.Error(err)
	}
	bad := send("bad")
	e.wantKind(bad, chat.KindInvalid)
	mu.Lock()
	defer mu.Unlock()
	want := map[string][]error{"good": {nil}, "bad": {bad}}
	if !maps.EqualFunc(calls, want, slices.Equal[[]error]) {
		e.Errorf("done was called with %v, want %v", calls, want)
	}
}

func testAppendCanceled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	err := e.Append(ctx, &store.Append{Message: message("alice", "x"), Targets: []string{"bob"}})
	e.wantKind(err, chat.KindUnavailable)
	if !errors.Is(err, context.Canceled) {
		e.Errorf("%v does not say why", err)
	}
	if e.head(app, "bob") != 0 || len(e.committed()) != 0 {
		e.Error("something was kept of a canceled append")
	}

	// Canceled at any moment: never both "nothing was kept" and kept.
	kept := map[string]bool{}
	refused := map[string]bool{}
	settled := make(chan struct{}, 100)
	for i := range cap(settled) {
		ctx, cancel := context.WithCancel(e.ctx)
		content := fmt.Sprint(i)
		go func() {
			time.Sleep(time.Duration(i) * time.Microsecond)
			cancel()
		}()
		err := e.Append(ctx, &store.Append{
			Message: message("alice", content), Targets: []string{"carol"},
			Done: func(error) { settled <- struct{}{} },
		})
		switch chat.KindOf(err) {
		case chat.KindUnavailable:
			refused[content] = true
		case chat.KindUnknown:
		default:
			if err != nil {
				e.Errorf("canceled append: %v", err)
			}
			kept[content] = true
		}
		cancel()
	}
	for range cap(settled) {
		<-settled
	}
	for i, en := range e.all(app, "carol") {
		m, err := e.Message(e.ctx, en.Ref)
		if err != nil || en.Offset != uint64(i+1) {
			e.Fatalf("entry %+v: %v", en, err)
		}
		if refused[m.Content] {
			e.Errorf("%s was refused and is kept", m.Content)
		}
		delete(kept, m.Content)
	}
	for content := range kept {
		e.Errorf("%s was accepted and is not kept", content)
	}
}

func testAppendLimits(e *env) {
	err := e.Append(e.ctx, &store.Append{Message: message("alice", "x")})
	e.wantKind(err, chat.KindInvalid)
	err = e.Append(e.ctx, &store.Append{Message: message("alice", "x"), Targets: users(chat.MaxUIDBlock + 1)})
	e.wantKind(err, chat.KindInvalid)

	most := users(chat.MaxUIDBlock)
	e.send(message("alice", "x"), "before")
	a := e.send(message("alice", strings.Repeat("ü", chat.MaxContent/2)), most...)
	final := a.Placed.First.Plus(len(most) - 1)
	if final.Counter() != chat.MaxUIDBlock-1 {
		e.Errorf("the last of a whole block is number %d", final.Counter())
	}
	user := most[len(most)-1]
	e.wantEntries(e.all(app, user), []store.Entry{{User: user, Offset: 1, UID: final, Ref: a.Placed.First, Kind: store.EntryIn}})
	found, err := e.Find(e.ctx, app, final)
	if err != nil || !slices.Equal(found.Targets, most) {
		e.Errorf("found %d targets, %v", len(found.Targets), err)
	}
	long := strings.Repeat("é", chat.MaxID/2)
	e.send(message(long, "x"), long, "bob")
	if e.head(app, long) != 1 {
		e.Error("a user with the longest id got nothing")
	}
}

// testOnCommit looks at what must hold at the moment OnCommit runs.
func testOnCommit(e *env) {
	answered := map[*store.Append]bool{}
	var mu sync.Mutex
	checks := 0
	e.mu.Lock()
	e.on = func(c *store.Commit) {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range c.Appends {
			checks++
			if answered[a] {
				e.Error("answered before OnCommit")
			}
			for _, en := range a.Placed.Entries {
				got, err := e.Read(e.ctx, app, en.User, store.Range{After: en.Offset - 1, Before: en.Offset + 1, Limit: 1}, nil)
				if err != nil || len(got) != 1 || got[0] != en {
					e.Errorf("at OnCommit %+v reads %+v, %v", en, got, err)
				}
			}
			if _, err := e.Message(e.ctx, a.Placed.First); err != nil {
				e.Errorf("at OnCommit the message: %v", err)
			}
		}
	}
	e.mu.Unlock()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				a := &store.Append{Message: message("alice", fmt.Sprint(i, j)), Targets: users(3)}
				a.Done = func(error) {
					mu.Lock()
					defer mu.Unlock()
					answered[a] = true
				}
				if err := e.Append(e.ctx, a); err != nil {
					e.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if checks != 100 || len(answered) != 100 {
		e.Errorf("%d appends at OnCommit, %d answered, want 100", checks, len(answered))
	}
}
