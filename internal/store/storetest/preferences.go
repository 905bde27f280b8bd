package storetest

import (
	"reflect"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// testPreferences sees that what a user has set for all channels is a row of its
// own, in the commit of whatever carries it, and that its event keeps all of it.
func testPreferences(e *env) {
	want := map[string]*chat.Preferences{}
	check := func() {
		e.Helper()
		for _, user := range []string{"bob", "bob2", "alice"} {
			if got, err := e.Preferences(e.ctx, app, user); err != nil || !reflect.DeepEqual(got, want[user]) {
				e.Errorf("%s prefers %+v, want %+v, %v", user, got, want[user], err)
			}
		}
		if got, err := e.Preferences(e.ctx, 2, "bob"); err != nil || got != nil {
			e.Errorf("in another app bob prefers %+v, %v", got, err)
		}
	}
	put := func(user string, p *chat.Preferences, views ...store.ViewChange) {
		e.Helper()
		want[user] = p
		a := look(views)
		a.Preferences = &store.PreferencesChange{App: app, User: user, Preferences: p}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
	}
	ref := channelOf("bob", chat.Direct, "alice")
	check()
	put("bob", &chat.Preferences{
		Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyAll, chat.Community: chat.NotifyNothing},
		Quiet:  &chat.QuietHours{From: 22 * 60, To: 0, Zone: "Europe/Berlin", Level: chat.NotifyMentions},
		Tags:   []chat.Tag{{ID: "w", Name: "Work", At: 7}, {ID: "h", Name: "Home", At: 8}},
	}, store.ViewChange{Channel: ref, View: &chat.View{PinnedAt: 3}})
	put("bob2", &chat.Preferences{Quiet: &chat.QuietHours{To: 5, Level: chat.NotifyNothing}})
	check()
	e.reopen()
	check()
	if list, err := e.Views(e.ctx, app, "bob"); err != nil || len(list) != 1 || list[0].Channel != "alice" || list[0].View.PinnedAt != 3 {
		e.Errorf("bob's views are %+v, %v", list, err)
	}
	put("bob2", nil)
	put("bob", &chat.Preferences{Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Group: chat.NotifyMentionsOfAll}})
	check()

	// With an event, which is all there whoever reads it and when.
	events := []*chat.Event{
		{Kind: chat.EventChannel, At: 5, ChannelType: chat.Group, Channel: "g", Own: &chat.OwnChange{Part: chat.OwnPin, PinnedAt: 5}},
		{Kind: chat.EventChannel, At: 6, ChannelType: chat.Group, Own: &chat.OwnChange{Part: chat.OwnLevel, Level: chat.NotifyAll}},
		{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnQuiet, Quiet: &chat.QuietHours{From: 1, To: 2, Zone: "UTC", Level: 5}}},
		{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnQuiet}},
		{Kind: chat.EventChannel, Own: &chat.OwnChange{Part: chat.OwnTags, Tags: []chat.Tag{{ID: "w", Name: "Work", At: 7}, {ID: "h", Name: "H", At: 8}}}},
		{Kind: chat.EventChannel, Own: &chat.OwnChange{
			Part: chat.OwnTagged, Tag: "w", TaggedAt: 9,
			Tagged: []chat.Channel{{Type: chat.Direct, ID: "a"}, {Type: chat.System, ID: "b"}}, Untagged: []chat.Channel{{Type: chat.Group, ID: "c"}},
		}},
	}
	for i, ev := range events {
		want["bob"] = &chat.Preferences{Quiet: &chat.QuietHours{From: i, To: 60, Zone: "UTC", Level: chat.NotifyNothing}}
		a := &store.Append{
			Message: event("bob", ev), Targets: []string{"bob"},
			Preferences: &store.PreferencesChange{App: app, User: "bob", Preferences: want["bob"]},
		}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
		check()
	}
	for range 2 {
		entries, err := e.Read(e.ctx, app, "bob", store.Range{Limit: 100}, nil)
		if err != nil || len(entries) != len(events) {
			e.Fatalf("%d entries, %v", len(entries), err)
		}
		for i := range entries {
			m, err := e.Message(e.ctx, entries[i].Ref)
			if err != nil || !reflect.DeepEqual(m.Event, events[i]) {
				e.Errorf("event %d is %+v with %+v, want %+v with %+v, %v", i, m.Event, m.Event.Own, events[i], events[i].Own, err)
			}
		}
		e.reopen()
	}
	if e.place.Crash != nil {
		e.place.Crash(e.Store)
		e.open()
		check()
	}
	a := look(nil)
	a.Preferences = &store.PreferencesChange{App: app, User: string(make([]byte, 300))}
	e.wantKind(e.Append(e.ctx, a), chat.KindTooLong)
}
