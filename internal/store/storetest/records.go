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

func testApps(e *env) {
	var want []*chat.App
	for i := range 3 {
		a := &chat.App{
			Key: fmt.Sprintf("key%d", i), Secret: "secret", TokenKey: []byte{1, byte(i)},
			CreatedAt: time.UnixMilli(int64(1000 + i)), Settings: chat.DefaultSettings(),
		}
		if err := e.PutApp(e.ctx, a); err != nil {
			e.Fatal(err)
		}
		if a.ID == 0 {
			e.Error("a new app got no id")
		}
		want = append(want, a)
	}
	changed := *want[1]
	changed.Secret = "other"
	for name, value := range map[string]string{"limits.direct": "12/s", "missed.days": "3", "types.custom": "a=status", "history.enabled": "false"} {
		if err := changed.Settings.Set(name, value); err != nil {
			e.Fatal(err)
		}
	}
	if err := e.PutApp(e.ctx, &changed); err != nil {
		e.Fatal(err)
	}
	want[1] = &changed
	// An app in hand is the caller's own from here on.
	given := changed
	changed.Secret = "scribbled over"
	want[1] = &given
	for range 2 {
		got, err := e.ListApps(e.ctx)
		if err != nil || len(got) != len(want) {
			e.Fatalf("%d apps, %v, want %d", len(got), err, len(want))
		}
		for i := range want {
			if !got[i].CreatedAt.Equal(want[i].CreatedAt) {
				e.Errorf("app %d created at %v, want %v", i, got[i].CreatedAt, want[i].CreatedAt)
			}
			g, w := *got[i], *want[i]
			g.CreatedAt, w.CreatedAt = time.Time{}, time.Time{}
			if !reflect.DeepEqual(g, w) {
				e.Errorf("app %d is %+v, want %+v", i, g, w)
			}
		}
		e.reopen()
	}
}

func testAppsConflict(e *env) {
	a := &chat.App{Key: "a", Settings: chat.DefaultSettings()}
	b := &chat.App{Key: "b", Settings: chat.DefaultSettings()}
	for _, put := range []*chat.App{a, b} {
		if err := e.PutApp(e.ctx, put); err != nil {
			e.Fatal(err)
		}
	}
	e.wantKind(e.PutApp(e.ctx, &chat.App{Key: "a"}), chat.KindConflict)
	e.wantKind(e.PutApp(e.ctx, &chat.App{ID: b.ID, Key: "a"}), chat.KindConflict)
	e.wantKind(e.PutApp(e.ctx, &chat.App{ID: 999, Key: "c"}), chat.KindNotFound)
	if list, err := e.ListApps(e.ctx); err != nil || len(list) != 2 {
		e.Errorf("%d apps, %v, want 2", len(list), err)
	}
}

func testUsers(e *env) {
	_, err := e.User(e.ctx, app, "bob")
	e.wantKind(err, chat.KindNoUser)
	created := time.UnixMilli(1234)
	if err := e.UpdateUsers(e.ctx, app, []string{"bob", "carol"}, func(u *chat.User) {
		if !u.CreatedAt.IsZero() || u.Name != "" || u.TokensFrom != 0 {
			e.Errorf("a new user is %+v", u)
		}
		u.Name, u.AvatarURL, u.CreatedAt = "name of "+u.ID, "http://x/", created
	}); err != nil {
		e.Fatal(err)
	}
	if err := e.UpdateUsers(e.ctx, app, []string{"carol", "dave"}, func(u *chat.User) {
		u.TokensFrom = 77
		u.Tags = []string{"a", "b c", u.ID}
	}); err != nil {
		e.Fatal(err)
	}
	want := []chat.User{
		{ID: "bob", Name: "name of bob", AvatarURL: "http://x/", CreatedAt: created},
		{ID: "carol", Name: "name of carol", AvatarURL: "http://x/", CreatedAt: created, TokensFrom: 77, Tags: []string{"a", "b c", "carol"}},
		{ID: "dave", TokensFrom: 77, Tags: []string{"a", "b c", "dave"}},
	}
	for range 2 {
		for _, w := range want {
			got, err := e.User(e.ctx, app, w.ID)
			if err != nil || !got.CreatedAt.Equal(w.CreatedAt) || got.Registered() != w.Registered() {
				e.Fatalf("user %s is %+v, %v, want %+v", w.ID, got, err, w)
			}
			g := *got
			g.CreatedAt = w.CreatedAt
			if !reflect.DeepEqual(g, w) {
				e.Errorf("user %s is %+v, want %+v", w.ID, g, w)
			}
		}
		e.reopen()
	}
}

func testUsersConcurrently(e *env) {
	var wg sync.WaitGroup
	ids := users(6)
	for i := range 8 {
		wg.Go(func() {
			mine := slices.Clone(ids)
			if i%2 == 0 {
				slices.Reverse(mine)
			}
			for range 5 {
				if err := e.UpdateUsers(e.ctx, app, mine, func(u *chat.User) { u.TokensFrom++ }); err != nil {
					e.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if u, err := e.User(e.ctx, app, id); err != nil || u.TokensFrom != 40 {
			e.Errorf("user is %+v, %v, want 40 updates", u, err)
		}
	}
}

func testDevices(e *env) {
	put := func(devices ...store.Device) {
		e.Helper()
		var all []store.UserDevice
		for _, d := range devices {
			all = append(all, store.UserDevice{App: app, User: "bob", Device: d})
		}
		if err := e.PutDevices(e.ctx, all); err != nil {
			e.Fatal(err)
		}
	}
	want := func(want ...store.Device) {
		e.Helper()
		got, err := e.Devices(e.ctx, app, "bob")
		if err != nil || !slices.Equal(got, want) {
			e.Errorf("devices %+v, %v, want %+v", got, err, want)
		}
	}
	want()
	put(store.Device{ID: "b", Epoch: "e1", Offset: 5, SeenAt: 20}, store.Device{ID: "a", Epoch: "e1", Offset: 9, SeenAt: 10})
	want(store.Device{ID: "a", Epoch: "e1", Offset: 9, SeenAt: 10}, store.Device{ID: "b", Epoch: "e1", Offset: 5, SeenAt: 20})
	// Not back within an epoch, but in another one, where offsets mean nothing.
	put(store.Device{ID: "a", Epoch: "e1", Offset: 3, SeenAt: 30, Platform: "iOS"}, store.Device{ID: "b", Epoch: "e2", Offset: 1, SeenAt: 40})
	after := []store.Device{{ID: "a", Epoch: "e1", Offset: 9, SeenAt: 30, Platform: "iOS"}, {ID: "b", Epoch: "e2", Offset: 1, SeenAt: 40}}
	want(after...)
	e.reopen()
	want(after...)

	// Those longest unseen go.
	for i := range store.MaxDevices {
		put(store.Device{ID: fmt.Sprint("d", i), Epoch: "e1", Offset: uint64(i), SeenAt: int64(35 + i*10)})
	}
	got, err := e.Devices(e.ctx, app, "bob")
	if err != nil || len(got) != store.MaxDevices {
		e.Fatalf("%d devices, %v, want %d", len(got), err, store.MaxDevices)
	}
	for _, d := range got {
		if d.ID == "a" || d.ID == "d0" {
			e.Errorf("device %+v was longest unseen and is there", d)
		}
	}
	if got[0].ID != "b" {
		e.Errorf("first is %+v, want b", got[0])
	}
	// Other users' devices are their own, also where one id begins the other.
	if err := e.PutDevices(e.ctx, []store.UserDevice{{App: app, User: "bobby", Device: store.Device{ID: "x"}}, {App: app, User: "bo", Device: store.Device{ID: "b"}}}); err != nil {
		e.Fatal(err)
	}
	if list, err := e.Devices(e.ctx, app, "bobby"); err != nil || len(list) != 1 {
		e.Errorf("bobby has %+v, %v", list, err)
	}
	if list, err := e.Devices(e.ctx, app, "bob"); err != nil || len(list) != store.MaxDevices {
		e.Errorf("bob has %d devices, %v", len(list), err)
	}
}

func testOnce(e *env) {
	key := [16]byte{1, 2, 3}
	if o, err := e.Once(e.ctx, key); err != nil || o != nil {
		e.Errorf("once before is %+v, %v", o, err)
	}
	a := &store.Append{
		Message: message("alice", "x"), Targets: []string{"bob"},
		Once: &store.Once{Key: key, Body: [16]byte{9}, Left: []string{"carol", "dave"}},
	}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatal(err)
	}
	want := &store.Once{Key: key, Body: [16]byte{9}, Left: []string{"carol", "dave"}, First: a.Placed.First}
	plain := &store.Append{Message: message("alice", "y"), Targets: []string{"bob"}, Once: &store.Once{Key: [16]byte{4}}}
	if err := e.Append(e.ctx, plain); err != nil {
		e.Fatal(err)
	}
	for range 2 {
		if o, err := e.Once(e.ctx, key); err != nil || !reflect.DeepEqual(o, want) {
			e.Errorf("once is %+v, %v, want %+v", o, err, want)
		}
		if o, err := e.Once(e.ctx, [16]byte{4}); err != nil || o == nil || len(o.Left) != 0 || o.First != plain.Placed.First {
			e.Errorf("plain once is %+v, %v", o, err)
		}
		if o, err := e.Once(e.ctx, [16]byte{5}); err != nil || o != nil {
			e.Errorf("once of another key is %+v, %v", o, err)
		}
		e.reopen()
	}
}

// A request that left everybody out keeps only the memory of itself.
func testOnceAlone(e *env) {
	e.send(message("alice", "before"), "bob")
	head, log := e.head(app, "alice"), e.LogHead()
	m := message("alice", "x")
	m.Echo = true
	a := &store.Append{Message: m, History: true, Once: &store.Once{Key: [16]byte{1}, Body: [16]byte{2}, Left: users(1000)}}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatal(err)
	}
	if len(a.Placed.Entries) != 0 || e.head(app, "alice") != head || e.LogHead() != log {
		e.Errorf("it left entries %v, a head at %d, a log at %d", a.Placed.Entries, e.head(app, "alice"), e.LogHead())
	}
	_, err := e.Message(e.ctx, a.Placed.First)
	e.wantKind(err, chat.KindNotFound)
	next := e.send(message("alice", "after"), "bob")
	if next.Placed.First.Compare(a.Placed.First) <= 0 {
		e.Errorf("the next UID %v is not behind %v", next.Placed.First, a.Placed.First)
	}
	want := &store.Once{Key: [16]byte{1}, Body: [16]byte{2}, Left: users(1000), First: a.Placed.First}
	for range 2 {
		if o, err := e.Once(e.ctx, want.Key); err != nil || !reflect.DeepEqual(o, want) {
			e.Errorf("once is %+v, %v, want %+v", o, err, want)
		}
		e.reopen()
	}
	e.clock.advance(store.OnceLife + time.Minute)
	if o, err := e.Once(e.ctx, want.Key); err != nil || o != nil {
		e.Errorf("once after its life is %+v, %v", o, err)
	}
	e.wantKind(e.Append(e.ctx, &store.Append{Message: m}), chat.KindInvalid)
}

func testOnceLife(e *env) {
	e.clock.set(time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC))
	key := [16]byte{7}
	a := &store.Append{Message: message("alice", "x"), Targets: []string{"bob"}, Once: &store.Once{Key: key}}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatal(err)
	}
	steps := []struct {
		advance time.Duration
		known   bool
	}{
		{0, true}, {time.Hour, true}, {22 * time.Hour, true}, {59 * time.Minute, true},
		{2 * time.Minute, false}, {48 * time.Hour, false},
	}
	for i, s := range steps {
		e.clock.advance(s.advance)
		e.expire()
		o, err := e.Once(e.ctx, key)
		if err != nil || (o != nil) != s.known {
			e.Errorf("step %d: once is %+v, %v, want known %v", i, o, err, s.known)
		}
	}
	// The clock stepping back does not make it forgotten.
	e.clock.advance(72 * time.Hour)
	b := &store.Append{Message: message("alice", "x"), Targets: []string{"bob"}, Once: &store.Once{Key: key}}
	if err := e.Append(e.ctx, b); err != nil {
		e.Fatal(err)
	}
	e.clock.advance(-30 * time.Hour)
	if o, err := e.Once(e.ctx, key); err != nil || o == nil || o.First != b.Placed.First {
		e.Errorf("with the clock back once is %+v, %v", o, err)
	}
}

func testReopen(e *env) {
	epoch := e.Epoch()
	if epoch == "" {
		e.Error("no epoch")
	}
	if err := e.Health(); err != nil {
		e.Errorf("health: %v", err)
	}
	for i := range 5 {
		a := e.send(message("alice", fmt.Sprint(i)), "bob")
		if a.Placed.Entries[0].Offset != uint64(i+1) {
			e.Errorf("offset %d in life %d", a.Placed.Entries[0].Offset, i)
		}
		e.reopen()
		if e.Epoch() != epoch {
			e.Errorf("epoch %q became %q", epoch, e.Epoch())
		}
		if e.LogHead() != uint64(i+1) {
			e.Errorf("log head is %d, want %d", e.LogHead(), i+1)
		}
	}
}

// testCrash sees that everything that was answered is there after a power cut,
// again and again.
func testCrash(e *env) {
	if e.place.Crash == nil {
		e.Skip("this place cannot crash")
	}
	var entries []store.Entry
	var onces []*store.Once
	a := &chat.App{Key: "key", Settings: chat.DefaultSettings()}
	if err := e.PutApp(e.ctx, a); err != nil {
		e.Fatal(err)
	}
	for life := range 5 {
		for i := range 10 {
			o := &store.Once{Key: [16]byte{byte(life), byte(i)}}
			ap := &store.Append{Message: message("alice", fmt.Sprint(life, i)), Targets: []string{"bob"}, Once: o, History: true}
			if err := e.Append(e.ctx, ap); err != nil {
				e.Fatal(err)
			}
			entries = append(entries, ap.Placed.Entries...)
			onces = append(onces, o)
			if i == 4 {
				e.index()
			}
		}
		if err := e.UpdateUsers(e.ctx, app, []string{"bob"}, func(u *chat.User) { u.TokensFrom = int64(life) }); err != nil {
			e.Fatal(err)
		}
		// Of this one nothing is stored but that its time was used: with the clock
		// set back during the power cut, no UID comes before it.
		last := e.send(status("alice"), "bob").Placed.First
		e.place.Crash(e.Store)
		e.clock.advance(-time.Minute)
		e.open()
		if a := e.send(status("alice"), "bob"); a.Placed.First.Compare(last) <= 0 {
			e.Errorf("UID %v after %v", a.Placed.First, last)
		}
		e.wantEntries(e.all(app, "bob"), entries)
		for _, o := range onces {
			if got, err := e.Once(e.ctx, o.Key); err != nil || got == nil || got.First != o.First {
				e.Errorf("once is %+v, %v", got, err)
			}
		}
		if u, err := e.User(e.ctx, app, "bob"); err != nil || u.TokensFrom != int64(life) {
			e.Errorf("user is %+v, %v", u, err)
		}
		if list, err := e.ListApps(e.ctx); err != nil || len(list) != 1 {
			e.Errorf("%d apps, %v", len(list), err)
		}
		e.index()
		h, err := e.History(e.ctx, store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}, store.HistoryRange{Limit: 1000})
		if err != nil || len(h) != len(entries) {
			e.Errorf("%d messages of history, %v, want %d", len(h), err, len(entries))
		}
	}
}
