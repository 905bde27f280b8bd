package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// registered is what the user has registered, by device and token.
func (e *env) registered(app chat.AppID, user string) (list []string) {
	e.Helper()
	devices, err := e.PushDevices(e.ctx, app, user)
	if err != nil {
		e.Fatal(err)
	}
	for i := range devices {
		one, err := e.PushDevice(e.ctx, app, user, devices[i].ID)
		if err != nil || one == nil {
			e.Fatal(devices[i].ID, one, err)
		}
		// When it was last connected is not a matter of its registration.
		if one.SeenAt > devices[i].SeenAt {
			e.Errorf("%s was seen at %d, and at %d", one, one.SeenAt, devices[i].SeenAt)
		}
		one.SeenAt = devices[i].SeenAt
		if !reflect.DeepEqual(*one, devices[i]) {
			e.Errorf("PushDevice: %+v, want %+v", *one, devices[i])
		}
	}
	if one, err := e.PushDevice(e.ctx, app, user, "nothing registered"); one != nil || err != nil {
		e.Errorf("PushDevice of what is not there: %+v, %v", one, err)
	}
	for _, d := range devices {
		list = append(list, fmt.Sprintf("%s=%s:%s", d.ID, d.Provider, d.Token))
	}
	return list
}

func (e *env) wantRegistered(user string, want ...string) {
	e.Helper()
	if got := e.registered(app, user); !reflect.DeepEqual(got, want) {
		e.Errorf("%s has registered %q, want %q", user, got, want)
	}
}

func (e *env) register(user, device, token string, at int64) {
	e.Helper()
	d := &chat.PushDevice{ID: device, Provider: chat.FCM, Token: token, RegisteredAt: at, SeenAt: at}
	if err := e.PutPushDevice(e.ctx, app, user, d); err != nil {
		e.Fatal(err)
	}
}

// testPushSights looks at many users at once and one by one: it is the same.
func testPushSights(e *env) {
	const channel = "ann"
	var users []string
	for i := range 40 {
		users = append(users, fmt.Sprintf("%c%s", 'a'+i%7, strings.Repeat("x", i)))
	}
	users = append(users, "nobody", "bob", "bo", "bobby", "")
	ref := e.send(message(channel, "x"), users[:44]...).Placed.First
	uids := make([]chat.UID, len(users))
	for i, user := range users {
		uids[i] = ref.Plus(i)
		if i >= 43 {
			continue
		}
		ch := store.ChannelRef{App: app, Owner: user, Type: chat.Direct, Channel: channel}
		if i%2 == 0 {
			if err := e.UpdateUsers(e.ctx, app, []string{user}, func(u *chat.User) { u.Name, u.BannedUntil, u.Tags = user, int64(i), []string{"t"} }); err != nil {
				e.Fatal(err)
			}
		}
		if i%3 == 0 {
			err := e.PutDevices(e.ctx, []store.UserDevice{
				{App: app, User: user, Device: store.Device{ID: "a", Epoch: "e", Offset: uint64(i), SeenAt: 1, Platform: "web"}},
				{App: app, User: user, Device: store.Device{ID: "b", Epoch: "e", Offset: 7, SeenAt: 2}},
			})
			if err != nil {
				e.Fatal(err)
			}
		}
		a := &store.Append{Message: event(user, &chat.Event{Kind: chat.EventChannel}), Targets: []string{user}}
		if i%4 == 1 {
			other := ch
			other.Channel = "anna"
			a.Views = []store.ViewChange{{Channel: ch, View: &chat.View{ReadUpTo: uids[i], ReadAt: int64(i) + 1}}, {Channel: other, View: &chat.View{PinnedAt: 5}}}
		}
		if i%5 == 2 {
			a.Preferences = &store.PreferencesChange{App: app, User: user, Preferences: &chat.Preferences{Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyNothing}}}
		}
		if i%6 == 3 {
			for _, m := range []store.Mark{store.MarkHidden, store.MarkRead} {
				a.Marks = append(a.Marks, store.MarkChange{Channel: ch, UID: uids[i], Mark: m, At: int64(i)}, store.MarkChange{Channel: ch, UID: uids[(i+1)%44], Mark: m})
			}
		}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
	}
	some := 0
	for range 2 {
		sights, err := e.PushSights(e.ctx, app, chat.Direct, channel, users, uids)
		if err != nil || len(sights) != len(users) {
			e.Fatalf("%d sights, %v", len(sights), err)
		}
		for i, user := range users {
			ch := store.ChannelRef{App: app, Owner: user, Type: chat.Direct, Channel: channel}
			var want store.PushSight
			if want.User, err = e.User(e.ctx, app, user); chat.KindOf(err) == chat.KindNoUser {
				want.User, err = nil, nil
			}
			errs := []error{err}
			want.Cursors, err = e.Devices(e.ctx, app, user)
			errs = append(errs, err)
			want.View, err = e.View(e.ctx, ch)
			errs = append(errs, err)
			want.Preferences, err = e.Preferences(e.ctx, app, user)
			errs = append(errs, err)
			want.Marks, err = e.Marks(e.ctx, ch, uids[i], uids[i])
			if err := errors.Join(append(errs, err)...); err != nil {
				e.Fatal(err)
			}
			if !reflect.DeepEqual(sights[i], want) {
				e.Errorf("%q:\n got %+v\nwant %+v", user, sights[i], want)
			}
			if !reflect.DeepEqual(want, store.PushSight{}) {
				some++
			}
		}
		e.reopen()
	}
	if some < 40 {
		e.Errorf("only of %d is anything known", some)
	}
	if sights, err := e.PushSights(e.ctx, 2, chat.Direct, channel, users, uids); err != nil || !reflect.DeepEqual(sights, make([]store.PushSight, len(users))) {
		e.Errorf("in another app: %+v, %v", sights, err)
	}
	if sights, err := e.PushSights(e.ctx, app, chat.Direct, channel, nil, nil); err != nil || len(sights) != 0 {
		e.Errorf("of nobody: %+v, %v", sights, err)
	}
	_, err := e.PushSights(e.ctx, app, chat.Direct, channel, users, uids[1:])
	e.wantKind(err, chat.KindInvalid)
	_, err = e.PushSights(e.ctx, app, chat.Direct, channel, []string{string(make([]byte, 300))}, uids[:1])
	e.wantKind(err, chat.KindTooLong)
}

func testPushDevices(e *env) {
	full := chat.PushDevice{
		ID: "phone", Provider: chat.APNs, Token: "abc", Package: "com.example", Environment: chat.Sandbox, Language: "zh-Hans", HideDetails: true,
		Zone: "Asia/Tokyo", Quiet: &chat.QuietHours{From: 60, To: 5, Zone: "Asia/Tokyo", Level: chat.NotifyNothing}, RegisteredAt: 7, SeenAt: 8,
	}
	if err := e.PutPushDevice(e.ctx, app, "bob", &full); err != nil {
		e.Fatal(err)
	}
	e.register("bob", "tablet", "t1", 5)
	e.register("bo", "b", "t2", 5)
	for range 2 {
		list, err := e.PushDevices(e.ctx, app, "bob")
		if err != nil || len(list) != 2 || list[0].ID != "tablet" || !reflect.DeepEqual(list[1], full) {
			e.Errorf("got %+v, %v, want the tablet and %+v", list, err, full)
		}
		e.wantRegistered("bo", "b=FCM:t2")
		e.wantRegistered("bobby")
		if got := e.registered(2, "bob"); got != nil {
			e.Errorf("in another app bob has %q", got)
		}
		// The same in bulk, whoever else there is.
		lists, err := e.PushDevicesOf(e.ctx, app, []string{"zoe", "bobby", "bob", "b", "bo", ""})
		if err != nil || len(lists) != 6 || len(lists[2]) != 2 || len(lists[4]) != 1 || lists[4][0].Token != "t2" {
			e.Errorf("in bulk: %+v, %v", lists, err)
		} else if i := slices.IndexFunc(lists[2], func(d chat.PushDevice) bool { return d.ID == "phone" }); i < 0 || !reflect.DeepEqual(lists[2][i], full) {
			e.Errorf("in bulk bob has %+v, want %+v", lists[2], full)
		} else if len(lists[0])+len(lists[1])+len(lists[3])+len(lists[5]) != 0 {
			e.Errorf("in bulk: %+v", lists)
		}
		if lists, err := e.PushDevicesOf(e.ctx, 2, []string{"bob"}); err != nil || len(lists) != 1 || lists[0] != nil {
			e.Errorf("in bulk, of another app: %+v, %v", lists, err)
		}
		e.reopen()
	}
	_, err := e.PushDevicesOf(e.ctx, app, []string{"bob", string(make([]byte, 300))})
	e.wantKind(err, chat.KindTooLong)
	// A device has one token: a new one takes the place of the old, which is then
	// nobody's.
	e.register("bob", "phone", "t3", 9)
	e.wantRegistered("bob", "tablet=FCM:t1", "phone=FCM:t3")
	if dropped, err := e.DropPushToken(e.ctx, app, chat.APNs, "abc", 1000); err != nil || dropped {
		e.Errorf("the old token was dropped: %t, %v", dropped, err)
	}
	// A device that has been on a connection was seen then.
	if err := e.PutDevices(e.ctx, []store.UserDevice{{App: app, User: "bob", Device: store.Device{ID: "tablet", SeenAt: 50}}}); err != nil {
		e.Fatal(err)
	}
	e.wantRegistered("bob", "phone=FCM:t3", "tablet=FCM:t1")
	for range 2 {
		if err := e.RemovePushDevice(e.ctx, app, "bob", "phone"); err != nil {
			e.Fatal(err)
		}
	}
	e.wantRegistered("bob", "tablet=FCM:t1")

	// Those longest unseen go, with their tokens.
	for i := range chat.MaxPushDevices {
		e.register("bob", fmt.Sprint("d", i), fmt.Sprint("n", i), int64(20+i))
	}
	got := e.registered(app, "bob")
	if len(got) != chat.MaxPushDevices || got[0] != "d1=FCM:n1" || got[len(got)-1] != "d31=FCM:n31" {
		e.Errorf("%d devices: %q", len(got), got)
	}
	if !slices.Contains(got, "tablet=FCM:t1") {
		e.Errorf("the tablet was seen after d0 and is gone: %q", got)
	}
	if dropped, err := e.DropPushToken(e.ctx, app, chat.FCM, "n0", 1000); err != nil || dropped {
		e.Errorf("the token of a device that is gone is there: %t, %v", dropped, err)
	}
	// One that is there already makes no other go.
	e.register("bob", "d31", "other", 100)
	if n := len(e.registered(app, "bob")); n != chat.MaxPushDevices {
		e.Errorf("%d devices", n)
	}
	e.wantKind(e.PutPushDevice(e.ctx, app, "", &full), chat.KindInvalid)
	e.wantKind(e.PutPushDevice(e.ctx, app, "bob", &chat.PushDevice{ID: "d", Provider: chat.FCM}), chat.KindInvalid)
	_, err = e.PushDevices(e.ctx, app, string(make([]byte, 300)))
	e.wantKind(err, chat.KindTooLong)

	if e.place.Crash != nil {
		want := e.registered(app, "bob")
		e.place.Crash(e.Store)
		e.open()
		e.wantRegistered("bob", want...)
	}
}

// testPushDevicesBehind goes through everything that an app's users have
// registered, and sees each once.
func testPushDevicesBehind(e *env) {
	want := map[string]int{}
	names := append(users(30), "a", "ab", "b", "\x00", "\xff\xff", string(bytes.Repeat([]byte{0xff}, 255)))
	for i, user := range names {
		for d := range 1 + i%3 {
			e.register(user, fmt.Sprint("d", d), fmt.Sprint("t", i, "-", d), int64(i+1))
			want[user]++
		}
	}
	for _, other := range []chat.AppID{app - 1, app + 1} {
		if err := e.PutPushDevice(e.ctx, other, "stranger", &chat.PushDevice{ID: "d", Provider: chat.FCM, Token: "t"}); err != nil {
			e.Fatal(err)
		}
	}
	for _, limit := range []int{1, 7, 1000} {
		got, behind := map[string]int{}, ""
		for {
			page, err := e.PushDevicesBehind(e.ctx, app, behind, limit)
			if err != nil || len(page) > limit {
				e.Fatalf("%d users, %v", len(page), err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				if got[r.User] > 0 || len(behind) > len(r.User) || len(behind) == len(r.User) && behind >= r.User {
					e.Errorf("%q after %q", r.User, behind)
				}
				behind = r.User
				got[r.User] = len(r.Devices)
				alone, err := e.PushDevicesOf(e.ctx, app, []string{r.User})
				if err != nil || !reflect.DeepEqual(alone[0], r.Devices) {
					e.Errorf("%q has %+v, %v, want %+v", r.User, r.Devices, err, alone)
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			e.Errorf("by %d: %v, want %v", limit, got, want)
		}
	}
	// Also behind somebody who has nothing.
	if page, err := e.PushDevicesBehind(e.ctx, app, "aa", 1); err != nil || len(page) != 1 || page[0].User != "ab" {
		e.Errorf("behind aa: %+v, %v", page, err)
	}
	if page, err := e.PushDevicesBehind(e.ctx, 77, "", 10); err != nil || len(page) != 0 {
		e.Errorf("of no app: %+v, %v", page, err)
	}
	_, err := e.PushDevicesBehind(e.ctx, app, "", 0)
	e.wantKind(err, chat.KindInvalid)
	_, err = e.PushDevicesBehind(e.ctx, app, string(make([]byte, 300)), 1)
	e.wantKind(err, chat.KindTooLong)
}

// A token is one device's: a phone that changes hands takes it along.
func testPushTokenMoves(e *env) {
	e.register("bob", "phone", "t", 1)
	e.register("alice", "mine", "t", 2)
	e.wantRegistered("bob")
	e.wantRegistered("alice", "mine=FCM:t")
	e.register("alice", "other", "t", 3) // as another device of the same user
	e.wantRegistered("alice", "other=FCM:t")
	e.reopen()
	e.wantRegistered("alice", "other=FCM:t")

	// Of another provider, or in another app, it is another token.
	d := &chat.PushDevice{ID: "phone", Provider: chat.HW, Token: "t", RegisteredAt: 4}
	for _, in := range []chat.AppID{app, 2} {
		if err := e.PutPushDevice(e.ctx, in, "bob", d); err != nil {
			e.Fatal(err)
		}
	}
	e.register("bob", "tablet", "t4", 5)
	e.wantRegistered("alice", "other=FCM:t")
	e.wantRegistered("bob", "phone=HW:t", "tablet=FCM:t4")
	// What was bob's before it moved goes without it.
	if err := e.RemovePushDevice(e.ctx, app, "alice", "mine"); err != nil {
		e.Fatal(err)
	}
	if dropped, err := e.DropPushToken(e.ctx, app, chat.FCM, "t", 3); err != nil || !dropped {
		e.Errorf("dropped: %t, %v", dropped, err)
	}
	e.wantRegistered("alice")
	e.wantRegistered("bob", "phone=HW:t", "tablet=FCM:t4")
	if got := e.registered(2, "bob"); !reflect.DeepEqual(got, []string{"phone=HW:t"}) {
		e.Errorf("in another app bob has %q", got)
	}
}

// However many register a few tokens at once, each is one device's in the end, and
// can be dropped.
func testPushTokensAtOnce(e *env) {
	var wg sync.WaitGroup
	names := users(6)
	for i, user := range names {
		wg.Go(func() {
			for n := range 20 {
				d := &chat.PushDevice{ID: "d" + fmt.Sprint((n+i)%2), Provider: chat.MI, Token: fmt.Sprint("t", (n*i+n)%3), RegisteredAt: int64(n)}
				if err := e.PutPushDevice(e.ctx, app, user, d); err != nil {
					e.Error(err)
				}
				if n%5 == i%5 {
					if err := e.RemovePushDevice(e.ctx, app, user, "d0"); err != nil {
						e.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	owners := map[string]string{}
	for _, user := range names {
		devices, err := e.PushDevices(e.ctx, app, user)
		if err != nil {
			e.Fatal(err)
		}
		for _, d := range devices {
			if other := owners[d.Token]; other != "" {
				e.Errorf("%s is %s's and %s's", d.Token, other, user)
			}
			owners[d.Token] = user
		}
	}
	for token, user := range owners {
		if dropped, err := e.DropPushToken(e.ctx, app, chat.MI, token, 100); err != nil || !dropped {
			e.Errorf("%s of %s: %t, %v", token, user, dropped, err)
		}
	}
	for _, user := range names {
		e.wantRegistered(user)
	}
}

// Of those who register a token at the same moment that nobody had, one has it.
func testPushTokenNew(e *env) {
	names := users(4)
	for round := range 25 {
		token := fmt.Sprint("r", round)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for _, user := range names {
			wg.Go(func() {
				<-start
				if err := e.PutPushDevice(e.ctx, app, user, &chat.PushDevice{ID: "d", Provider: chat.MI, Token: token}); err != nil {
					e.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		var owners []string
		for _, user := range names {
			if len(e.registered(app, user)) > 0 {
				owners = append(owners, user)
			}
		}
		if len(owners) != 1 {
			e.Fatalf("%s is that of %q", token, owners)
		}
	}
}

// Dead tokens go, but not those that were registered again since.
func testPushTokensDie(e *env) {
	drop := func(token string, by int64, want bool) {
		e.Helper()
		if got, err := e.DropPushToken(e.ctx, app, chat.FCM, token, by); err != nil || got != want {
			e.Errorf("%s registered by %d dropped: %t, %v, want %t", token, by, got, err, want)
		}
	}
	strike := func(by, day int64, want bool) {
		e.Helper()
		if got, err := e.StrikePushToken(e.ctx, app, chat.FCM, "s", by, day); err != nil || got != want {
			e.Errorf("strike on day %d dropped: %t, %v, want %t", day, got, err, want)
		}
	}
	e.register("bob", "phone", "t", 10)
	drop("t", 9, false)
	drop("other", 100, false)
	if got, err := e.DropPushToken(e.ctx, 2, chat.FCM, "t", 100); err != nil || got {
		e.Errorf("dropped from another app: %t, %v", got, err)
	}
	e.wantRegistered("bob", "phone=FCM:t")
	e.register("bob", "phone", "t", 20)
	drop("t", 19, false)
	e.register("alice", "phone", "t", 30)
	drop("t", 29, false)
	e.wantRegistered("alice", "phone=FCM:t")
	drop("t", 30, true)
	drop("t", 30, false)
	e.wantRegistered("alice")

	e.register("bob", "phone", "s", 10)
	for _, day := range []int64{5, 5, 6, 6, 5} {
		strike(10, day, false)
	}
	strike(9, 7, false) // it was said of an earlier registration
	e.reopen()
	strike(10, 6, false)
	e.register("bob", "phone", "s", 20) // begins anew
	strike(20, 7, false)
	strike(20, 8, false)
	e.wantRegistered("bob", "phone=FCM:s")
	strike(20, 9, true)
	strike(20, 10, false)
	e.wantRegistered("bob")
	e.reopen()
	e.wantRegistered("bob")

	// What was said of a token that works after all is forgotten, and so is never
	// the reason why it goes.
	struck := func(want bool) {
		e.Helper()
		list, err := e.PushDevicesOf(e.ctx, app, []string{"bob"})
		if err != nil || len(list[0]) != 1 || list[0][0].Struck != want {
			e.Errorf("%+v, %v, want struck %t", list, err, want)
		}
		if d, err := e.PushDevice(e.ctx, app, "bob", "phone"); err != nil || d == nil || d.Struck != want {
			e.Errorf("alone %+v, %v, want struck %t", d, err, want)
		}
	}
	clears := func(token string, by int64) {
		e.Helper()
		if err := e.ClearPushStrikes(e.ctx, app, chat.FCM, token, by); err != nil {
			e.Error(err)
		}
	}
	e.register("bob", "phone", "s", 30)
	struck(false)
	clears("s", 30)
	strike(30, 1, false)
	strike(30, 2, false)
	struck(true)
	clears("s", 29) // of an earlier registration
	clears("other", 30)
	struck(true)
	clears("s", 30)
	for range 2 {
		struck(false)
		e.reopen()
	}
	strike(30, 3, false)
	strike(30, 4, false)
	struck(true)
	strike(30, 5, true)
}

// testPushTokenEnvironment sees that a registration's environment changes only where
// it is what somebody saw.
func testPushTokenEnvironment(e *env) {
	put := func(user, device string, at int64, v chat.PushEnvironment) {
		e.Helper()
		d := &chat.PushDevice{
			ID: device, Provider: chat.APNs, Token: "t", Package: "com.example", Language: "de", RegisteredAt: at, SeenAt: at, Environment: v,
			Quiet: &chat.QuietHours{From: 1, To: 2, Zone: "UTC"},
		}
		if err := e.PutPushDevice(e.ctx, app, user, d); err != nil {
			e.Fatal(err)
		}
	}
	move := func(token string, by int64, from, to chat.PushEnvironment, want bool) {
		e.Helper()
		if got, err := e.MovePushToken(e.ctx, app, chat.APNs, token, by, from, to); err != nil || got != want {
			e.Errorf("moved: %t, %v, want %t", got, err, want)
		}
	}
	is := func(user string, at int64, want chat.PushEnvironment) {
		e.Helper()
		d, err := e.PushDevice(e.ctx, app, user, "phone")
		if err != nil || d == nil || d.Environment != want || d.RegisteredAt != at || d.Language != "de" || d.Quiet == nil || d.Package != "com.example" {
			e.Errorf("%+v, %v, want environment %s", d, err, want)
		}
	}
	move("t", 10, chat.Production, chat.Sandbox, false)
	put("bob", "phone", 10, chat.Production)
	move("t", 9, chat.Production, chat.Sandbox, false)
	move("other", 10, chat.Production, chat.Sandbox, false)
	move("t", 10, chat.Sandbox, chat.Production, false)
	move("t", 10, chat.Production, chat.Production, false)
	is("bob", 10, chat.Production)
	move("t", 10, chat.Production, chat.Sandbox, true)
	for range 2 {
		is("bob", 10, chat.Sandbox)
		e.reopen()
	}
	move("t", 10, chat.Production, chat.Sandbox, false)
	// Registered again, it is what was registered; and elsewhere, it is another's.
	put("bob", "phone", 20, chat.Production)
	move("t", 10, chat.Production, chat.Sandbox, false)
	is("bob", 20, chat.Production)
	put("alice", "phone", 30, chat.NoEnvironment)
	move("t", 20, chat.Production, chat.Sandbox, false)
	move("t", 30, chat.NoEnvironment, chat.Sandbox, true)
	is("alice", 30, chat.Sandbox)
	if d, err := e.PushDevice(e.ctx, app, "bob", "phone"); err != nil || d != nil {
		e.Errorf("bob has %+v, %v", d, err)
	}
	if ok, err := e.DropPushToken(e.ctx, app, chat.APNs, "t", 30); err != nil || !ok {
		e.Errorf("dropped: %t, %v", ok, err)
	}
}

func testPushSettings(e *env) {
	credentials := []chat.PushCredential{
		{Provider: chat.APNs, Package: "", Fields: map[string]string{"p8": "k"}, Since: 1},
		{Provider: chat.APNs, Package: "a", Environment: chat.Production, Fields: map[string]string{"p8": "p"}, BaseURL: "https://x", Since: 2},
		{Provider: chat.APNs, Package: "a", Environment: chat.Sandbox, Fields: map[string]string{"p8": "s"}, Since: 3},
		{Provider: chat.MI, Package: "a", Fields: map[string]string{"appSecret": "x", "region": "cn"}, Since: 4},
	}
	templates := []chat.PushTemplate{
		{ID: "a", Default: "en", Texts: map[string]chat.PushText{"en": {Title: "Hi", Body: "B"}, "de": {Body: "C"}}, Since: 1},
		{ID: "b", Default: "de", Texts: map[string]chat.PushText{"de": {Body: "D"}}, Since: 2},
	}
	check := func(app chat.AppID, c []chat.PushCredential, t []chat.PushTemplate) {
		e.Helper()
		if got, err := e.PushCredentials(e.ctx, app); err != nil || len(got) != len(c) || len(c) > 0 && !reflect.DeepEqual(got, c) {
			e.Errorf("credentials are %v, %v, want %v", got, err, c)
		}
		if got, err := e.PushTemplates(e.ctx, app); err != nil || len(got) != len(t) || len(t) > 0 && !reflect.DeepEqual(got, t) {
			e.Errorf("templates are %v, %v, want %v", got, err, t)
		}
	}
	do := func(err error) {
		e.Helper()
		if err != nil {
			e.Fatal(err)
		}
	}
	check(app, nil, nil)
	for i := len(credentials) - 1; i >= 0; i-- {
		do(e.PutPushCredential(e.ctx, app, &chat.PushCredential{Provider: credentials[i].Provider, Package: credentials[i].Package, Environment: credentials[i].Environment, Fields: map[string]string{"old": "x"}}))
		do(e.PutPushCredential(e.ctx, app, &credentials[i]))
	}
	for i := range templates {
		do(e.PutPushTemplate(e.ctx, app, &chat.PushTemplate{ID: templates[i].ID, Texts: map[string]chat.PushText{"old": {}}}))
		do(e.PutPushTemplate(e.ctx, app, &templates[i]))
	}
	check(app, credentials, templates)
	check(2, nil, nil)
	e.reopen()
	check(app, credentials, templates)
	for range 2 {
		do(e.RemovePushCredential(e.ctx, app, &chat.PushCredential{Provider: chat.APNs, Package: "a", Environment: chat.Production}))
		do(e.RemovePushTemplate(e.ctx, app, "a"))
	}
	left := append(credentials[:1:1], credentials[2:]...)
	check(app, left, templates[1:])
	if e.place.Crash != nil {
		e.place.Crash(e.Store)
		e.open()
		check(app, left, templates[1:])
	}
}
