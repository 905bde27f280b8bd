package storetest

import (
	"reflect"
	"slices"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func (e *env) facts(id chat.AppID, channel string) []store.OpenFact {
	e.Helper()
	list, err := e.OpenFacts(e.ctx, id, channel)
	if err != nil {
		e.Fatal(err)
	}
	return list
}

func (e *env) putFacts(id chat.AppID, channel string, c store.OpenChange) {
	e.Helper()
	if err := e.PutOpenFacts(e.ctx, id, channel, c); err != nil {
		e.Fatal(err)
	}
}

func testOpenFacts(e *env) {
	fact := func(kind store.OpenKind, key, value string) store.OpenFact {
		return store.OpenFact{Kind: kind, Key: key, Value: []byte(value)}
	}
	// Names that begin with each other, and the facts of a whole app.
	room := []store.OpenFact{fact(store.OpenLife, "", "{}"), fact(store.OpenFrozen, "", ""), fact(store.OpenMuted, "bob", "1"),
		fact(store.OpenMuted, "bobby", "2"), fact(store.OpenPair, "a", "v")}
	room2 := []store.OpenFact{fact(store.OpenLife, "", "2")}
	whole := []store.OpenFact{fact(store.OpenMuted, "eve", "9"), fact(store.OpenLowType, "app:like", "")}
	other := []store.OpenFact{fact(store.OpenLife, "", "x")}
	e.putFacts(app, "room", store.OpenChange{Facts: room})
	e.putFacts(app, "room2", store.OpenChange{Facts: room2})
	e.putFacts(app, "", store.OpenChange{Facts: whole})
	e.putFacts(2, "room", store.OpenChange{Facts: other})
	check := func() {
		e.Helper()
		for _, tt := range []struct {
			id      chat.AppID
			channel string
			want    []store.OpenFact
		}{{app, "room", room}, {app, "room2", room2}, {app, "", whole}, {2, "room", other}, {2, "room2", nil}, {app, "roo", nil}} {
			if got := e.facts(tt.id, tt.channel); len(got) != len(tt.want) || len(got) > 0 && !reflect.DeepEqual(got, tt.want) {
				e.Errorf("facts of %q in app %d are %q, want %q", tt.channel, tt.id, got, tt.want)
			}
		}
	}
	check()
	e.reopen()
	check()
	e.putFacts(app, "room", store.OpenChange{Facts: []store.OpenFact{
		{Kind: store.OpenMuted, Key: "bob"}, {Kind: store.OpenMuted, Key: "nobody"}, fact(store.OpenPair, "a", "w"), fact(store.OpenPair, "b", ""),
	}})
	room = []store.OpenFact{room[0], room[1], room[3], fact(store.OpenPair, "a", "w"), fact(store.OpenPair, "b", "")}
	check()
	// A new life takes all of the old one with it, and nobody else's.
	e.putFacts(app, "room", store.OpenChange{Drop: true, Facts: []store.OpenFact{fact(store.OpenLife, "", "new")}})
	room = []store.OpenFact{fact(store.OpenLife, "", "new")}
	check()
	if e.place.Crash != nil {
		e.place.Crash(e.Store)
		e.open()
		check()
	}

	list := func(id chat.AppID, kind store.OpenKind, after string, limit int) []string {
		e.Helper()
		got, err := e.ListOpen(e.ctx, id, kind, after, limit)
		if err != nil {
			e.Fatal(err)
		}
		return got
	}
	if got := list(app, store.OpenLife, "", 10); !slices.Equal(got, []string{"room", "room2"}) {
		e.Errorf("channels are %q", got)
	}
	if got := list(app, store.OpenFrozen, "", 10); len(got) != 0 {
		e.Errorf("frozen are %q", got)
	}
	if got := list(2, store.OpenLife, "", 10); !slices.Equal(got, []string{"room"}) {
		e.Errorf("the other app's channels are %q", got)
	}
	var want, paged []string
	for _, u := range users(7) {
		e.putFacts(app, u, store.OpenChange{Facts: []store.OpenFact{fact(store.OpenFrozen, "", ""), fact(store.OpenMuted, "x", ""), fact(store.OpenMuted, "y", "")}})
		want = append(want, u)
	}
	for _, kind := range []store.OpenKind{store.OpenFrozen, store.OpenMuted} {
		paged = nil
		for after := ""; ; after = paged[len(paged)-1] {
			page := list(app, kind, after, 2)
			paged = append(paged, page...)
			if len(page) < 2 {
				break
			}
		}
		slices.Sort(paged)
		slices.Sort(want)
		if !slices.Equal(paged, want) {
			e.Errorf("page by page they are %q, want %q", paged, want)
		}
	}
	e.wantKind(e.PutOpenFacts(e.ctx, app, string(make([]byte, 300)), store.OpenChange{}), chat.KindTooLong)
}

func testOpenDue(e *env) {
	put := func(id chat.AppID, channel string, was, due int64) {
		e.Helper()
		e.putFacts(id, channel, store.OpenChange{WasDue: was, Due: due})
	}
	due := func(until int64, limit int) []store.DueChannel {
		e.Helper()
		list, err := e.OpenDue(e.ctx, until, limit)
		if err != nil {
			e.Fatal(err)
		}
		return list
	}
	put(app, "b", 0, 20)
	put(2, "b", 0, 10)
	put(app, "a", 0, 30)
	want := []store.DueChannel{{App: 2, Channel: "b", Due: 10}, {App: app, Channel: "b", Due: 20}, {App: app, Channel: "a", Due: 30}}
	if got := due(9, 10); len(got) != 0 {
		e.Errorf("too early: %v", got)
	}
	if got := due(30, 10); !reflect.DeepEqual(got, want) {
		e.Errorf("due are %v, want %v", got, want)
	}
	if got := due(30, 2); !reflect.DeepEqual(got, want[:2]) {
		e.Errorf("the first two due are %v", got)
	}
	put(app, "b", 20, 40)
	put(2, "b", 10, 0)
	e.reopen()
	want = []store.DueChannel{{App: app, Channel: "a", Due: 30}, {App: app, Channel: "b", Due: 40}}
	if got := due(100, 10); !reflect.DeepEqual(got, want) {
		e.Errorf("due are now %v, want %v", got, want)
	}
}
