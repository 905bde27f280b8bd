package storetest

import (
	"reflect"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func channelOf(owner string, t chat.ChannelType, channel string) store.ChannelRef {
	return store.ChannelRef{App: app, Owner: owner, Type: t, Channel: channel}
}

// look is the append that changes views and marks and tells nobody.
func look(views []store.ViewChange, marks ...store.MarkChange) *store.Append {
	return &store.Append{Message: event("alice", nil), Views: views, Marks: marks}
}

func (e *env) view(ch store.ChannelRef) *chat.View {
	e.Helper()
	v, err := e.View(e.ctx, ch)
	if err != nil {
		e.Fatal(err)
	}
	return v
}

func testViews(e *env) {
	a := e.send(message("alice", "x"), "bob")
	uid := a.Placed.First
	head, log := e.head(app, "bob"), e.LogHead()
	// Ids that begin with each other, and the channel of nobody.
	refs := []store.ChannelRef{
		channelOf("bob", chat.Direct, "alice"), channelOf("bob", chat.Direct, "alice2"),
		channelOf("bob", chat.System, "alice"), channelOf("bob2", chat.Direct, "alice"), channelOf("", chat.Open, "room"),
	}
	want := make([]*chat.View, len(refs))
	check := func() {
		e.Helper()
		for i, ref := range refs {
			if got := e.view(ref); !reflect.DeepEqual(got, want[i]) {
				e.Errorf("view %d is %+v, want %+v", i, got, want[i])
			}
		}
		other := refs[0]
		other.App = 2
		if v := e.view(other); v != nil {
			e.Errorf("another app reads %+v", v)
		}
		list, err := e.Views(e.ctx, app, "bob")
		if err != nil {
			e.Fatal(err)
		}
		var all []store.OwnView
		for i, ref := range refs[:3] {
			if want[i] != nil {
				all = append(all, store.OwnView{Type: ref.Type, Channel: ref.Channel, View: want[i]})
			}
		}
		if !reflect.DeepEqual(list, all) {
			e.Errorf("bob's views are %+v, want %+v", list, all)
		}
	}
	put := func(changes ...int) {
		e.Helper()
		var views []store.ViewChange
		for _, i := range changes {
			views = append(views, store.ViewChange{Channel: refs[i], View: want[i]})
		}
		ap := look(views)
		if err := e.Append(e.ctx, ap); err != nil {
			e.Fatal(err)
		}
		if len(ap.Placed.Entries) != 0 {
			e.Errorf("views alone gave entries %+v", ap.Placed.Entries)
		}
	}
	check()
	want[0] = &chat.View{ReadUpTo: uid, ClearedUpTo: uid.Plus(1), RemovedUpTo: uid.Plus(2), PinnedAt: 5, Level: chat.NotifyAll, ReadAt: 11, ClearedAt: 12, RemovedAt: 13,
		Tags: []chat.ViewTag{{ID: "work", At: 7}, {ID: "a", At: 6}}}
	want[1] = &chat.View{Level: chat.NotifyNothing}
	want[2] = &chat.View{PinnedAt: 9}
	want[3] = &chat.View{ReadUpTo: uid}
	want[4] = &chat.View{ClearedUpTo: uid}
	put(0, 1, 2, 3, 4)
	check()
	want[0], want[1] = &chat.View{Level: chat.NotifyMentions}, nil
	put(0, 1)
	check()
	e.reopen()
	check()
	e.clock.advance(400 * 24 * time.Hour)
	e.index()
	e.expire()
	check()
	if e.head(app, "bob") != head || e.LogHead() != log {
		e.Error("changes of views show in the timeline or in the log")
	}
	long := channelOf("bob", chat.Direct, string(make([]byte, 300)))
	e.wantKind(e.Append(e.ctx, look([]store.ViewChange{{Channel: long, View: &chat.View{}}})), chat.KindTooLong)
	e.wantKind(e.Append(e.ctx, look(nil, store.MarkChange{Channel: long, UID: uid})), chat.KindTooLong)
}

// testViewsWithEvent sees that a view and the entry that tells of it are there
// together, and that no reader is shown a view that is not durable.
func testViewsWithEvent(e *env) {
	ref := channelOf("bob", chat.Direct, "alice")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			v, err := e.View(e.ctx, ref)
			if err != nil || v == nil {
				continue
			}
			head, err := e.Head(e.ctx, app, "bob")
			if err == nil && int64(head) < v.PinnedAt {
				e.Errorf("view %d is seen at offset %d", v.PinnedAt, head)
				return
			}
		}
	})
	for i := range int64(50) {
		a := &store.Append{
			Message: event("bob", &chat.Event{Kind: chat.EventRecall, Operator: "bob", At: i}), Targets: []string{"bob"},
			Views: []store.ViewChange{{Channel: ref, View: &chat.View{PinnedAt: i + 1}}},
		}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
		if v := e.view(ref); v.PinnedAt != i+1 || len(a.Placed.Entries) != 1 {
			e.Fatalf("after append %d the view is %+v, entries %+v", i, v, a.Placed.Entries)
		}
	}
	close(stop)
	wg.Wait()
	if e.place.Crash != nil {
		e.place.Crash(e.Store)
		e.open()
		if v := e.view(ref); v == nil || v.PinnedAt != 50 {
			e.Errorf("after a crash the view is %+v", v)
		}
	}
}

func testMarks(e *env) {
	var uids []chat.UID
	for _, days := range []time.Duration{0, 10, 25, 0} { // into the third month
		e.clock.advance(days * 24 * time.Hour)
		uids = append(uids, e.send(message("alice", "x"), "bob").Placed.First)
	}
	ref, other := channelOf("bob", chat.Direct, "alice"), channelOf("bob", chat.Direct, "alice2")
	change := func(ch store.ChannelRef, uid chat.UID, m store.Mark) store.MarkChange {
		c := store.MarkChange{Channel: ch, UID: uid, Mark: m}
		if m == store.MarkHidden {
			c.At = 17
		}
		return c
	}
	if err := e.Append(e.ctx, look(nil,
		change(ref, uids[0], store.MarkRead), change(ref, uids[0], store.MarkHidden), change(ref, uids[2], store.MarkRecalled),
		change(ref, uids[3], store.MarkHidden), change(other, uids[1], store.MarkHidden))); err != nil {
		e.Fatal(err)
	}
	all := []store.Marked{{UID: uids[0], Mark: store.MarkHidden, At: 17}, {UID: uids[0], Mark: store.MarkRead},
		{UID: uids[2], Mark: store.MarkRecalled}, {UID: uids[3], Mark: store.MarkHidden, At: 17}}
	check := func(from, to chat.UID, want []store.Marked) {
		e.Helper()
		got, err := e.Marks(e.ctx, ref, from, to)
		if err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			e.Errorf("marks are %+v, want %+v, %v", got, want, err)
		}
	}
	whole := chat.NewUID(e.clock.Now().Add(time.Hour).UnixMilli(), chat.Direct, 0, 0)
	for range 2 {
		check(chat.UID{}, whole, all)
		check(uids[0], uids[3], all)
		check(uids[1], uids[2], all[2:3])
		check(uids[1], uids[1], nil)
		check(uids[3], uids[0], nil)
		e.reopen()
	}
	foreign := ref
	foreign.App = 2
	if got, err := e.Marks(e.ctx, foreign, chat.UID{}, whole); err != nil || len(got) > 0 {
		e.Errorf("another app reads %+v, %v", got, err)
	}
	e.clock.advance(180 * 24 * time.Hour)
	e.expire()
	check(chat.UID{}, whole, all[2:])
	e.clock.advance(60 * 24 * time.Hour)
	e.expire()
	check(chat.UID{}, whole, nil)
}
