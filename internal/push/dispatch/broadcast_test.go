package dispatch

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// aBroadcast is a broadcast of a text by ann, or what it is changed to.
func aBroadcast(app chat.AppID, change ...func(*chat.Broadcast)) *store.Append {
	m := &chat.Message{
		App: app, ChannelType: chat.System, From: "ann", Type: "RC:TxtMsg", Content: `{"content":"hear ye"}`, RequestID: "call",
		Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed,
	}
	b := &chat.Broadcast{App: app, Kind: chat.BroadcastAll, From: "ann", RequestID: "call", Life: chat.BroadcastLife, Message: m}
	for _, f := range change {
		f(b)
	}
	if b.Message == nil {
		m = &chat.Message{App: app, ChannelType: chat.System, From: "ann", Flags: chat.Missed}
	}
	return &store.Append{Message: m, Broadcast: b}
}

func (s *sentry) broadcast(change ...func(*chat.Broadcast)) chat.UID {
	s.t.Helper()
	return s.append(aBroadcast(s.app.ID, change...))
}

func recalls(uid chat.UID) func(*chat.Broadcast) {
	return func(b *chat.Broadcast) { b.Kind, b.Recalls, b.Message = chat.BroadcastRecall, uid, nil }
}

// give gives users a broadcast, as the courier does when they come.
func (s *sentry) give(of chat.UID, users ...string) chat.UID {
	s.t.Helper()
	b, err := s.store.Broadcast(context.Background(), s.app.ID, of)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.append(&store.Append{Message: b.Message, Targets: users, History: true, Taking: &store.Taking{Of: of, Pass: true}})
}

// came waits until all broadcasts so far have come to everybody.
func (s *sentry) came() {
	s.t.Helper()
	list, err := s.store.Broadcasts(context.Background(), s.now().UnixMilli())
	if err != nil {
		s.t.Fatal(err)
	}
	s.until("broadcasts have come to all", func() bool {
		passes, met, err := s.store.PushPasses(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, b := range list {
			if b.Life == chat.BroadcastLife && b.UID.Compare(met) > 0 {
				return false
			}
		}
		return len(passes) == 0
	})
}

// who is whom there are jobs for, by user and device.
func (s *sentry) who(of chat.UID) (list []string) {
	s.t.Helper()
	for _, j := range s.jobs() {
		if j.UID == of {
			list = append(list, j.User+"/"+j.Device)
		}
	}
	slices.Sort(list)
	return list
}

func (s *sentry) wantJobs(of chat.UID, want ...string) {
	s.t.Helper()
	if got := s.who(of); !slices.Equal(got, want) {
		s.t.Errorf("jobs of %q, want %q", got, want)
	}
}

func (s *sentry) tag(user string, tags ...string) {
	s.t.Helper()
	if err := s.store.UpdateUsers(context.Background(), s.app.ID, []string{user}, func(u *chat.User) { u.Tags = tags }); err != nil {
		s.t.Fatal(err)
	}
}

// A broadcast notifies everybody who has a device and is not kept out.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	users := []string{"ann", "away", "banned", "deleted", "muted", "asleep", "two", "foreign", "taken", "online"}
	for _, u := range users {
		s.register(u)
	}
	s.register("two", func(d *chat.PushDevice) { d.ID, d.Token = "pad", "another" })
	s.register("foreign", func(d *chat.PushDevice) { d.Provider = chat.OPPO })
	if err := s.store.UpdateUsers(context.Background(), s.app.ID, []string{"banned", "deleted"}, func(u *chat.User) {
		if u.ID == "banned" {
			u.BannedUntil = s.now().Add(time.Hour).UnixMilli()
		} else {
			u.DeletedAt = 1
		}
	}); err != nil {
		t.Fatal(err)
	}
	in := func(user string, v *chat.View, p *chat.Preferences) {
		a := &store.Append{
			Message: &chat.Message{App: s.app.ID, ChannelType: chat.Direct, From: user, Flags: chat.Missed, Event: &chat.Event{Kind: chat.EventChannel}},
			Targets: []string{user},
		}
		if v != nil {
			a.Views = []store.ViewChange{{Channel: store.ChannelRef{App: s.app.ID, Owner: user, Type: chat.System, Channel: "ann"}, View: v}}
		}
		if p != nil {
			a.Preferences = &store.PreferencesChange{App: s.app.ID, User: user, Preferences: p}
		}
		s.append(a)
	}
	in("muted", &chat.View{Level: chat.NotifyNothing}, nil)
	in("asleep", nil, &chat.Preferences{Quiet: &chat.QuietHours{From: 0, To: 23*60 + 59, Zone: "UTC", Level: chat.NotifyNothing}})
	s.follow()
	s.until("it follows", func() bool {
		_, met, err := s.store.PushPasses(context.Background())
		return err == nil && !met.IsZero()
	})
	s.connect("online", "ios", 0)
	of := s.broadcast()
	s.give(of, "taken")
	s.until("its pass begins", func() bool {
		passes, _, err := s.store.PushPasses(context.Background())
		return err == nil && len(passes) == 1
	})
	time.Sleep(3 * followTick) // nothing must happen
	s.wantJobs(of)
	s.pass(3 * time.Second)
	s.came()
	s.wantJobs(of, "away/phone", "online/phone", "two/pad", "two/phone")
	for _, j := range s.jobs() {
		if j.UID != of {
			continue
		}
		want := store.PushJob{
			Lane: store.PushLane{App: s.app.ID, Provider: chat.MEIZU}, Priority: 3,
			PushPlace: store.PushPlace{Due: of.Millis() + 3000, UID: of, User: j.User, Device: j.Device},
			Ref:       of, MadeAt: s.now().UnixMilli(), Expires: of.Millis() + (24 * time.Hour).Milliseconds(),
		}
		if j.User == "online" { // who is about to be given it
			want.Due = of.Millis() + castWait.Milliseconds()
		}
		if j != want {
			t.Errorf("%s:\n got %+v\nwant %+v", j.User, j, want)
		}
	}
	// It is over: nobody who comes later is notified.
	s.register("late")
	s.pass(time.Hour)
	s.passed()
	if got := s.who(of); slices.Contains(got, "late/phone") {
		t.Errorf("jobs of %q", got)
	}
}

// Whom a broadcast is for, and what does not notify.
func TestBroadcastAudiences(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	for user, tags := range map[string][]string{"a": {"red"}, "b": {"blue", "red"}, "c": nil} {
		s.register(user)
		s.tag(user, tags...)
	}
	s.register("d") // nobody has told us of d
	s.register("p", func(d *chat.PushDevice) { d.Package = "com.example" })
	s.register("p", func(d *chat.PushDevice) { d.ID, d.Token, d.Package = "other", "o", "com.other" })
	s.follow()
	for name, c := range map[string]struct {
		change func(*chat.Broadcast)
		want   string
	}{
		"all":      {func(*chat.Broadcast) {}, "a/phone b/phone c/phone d/phone p/other p/phone"},
		"one tag":  {func(b *chat.Broadcast) { b.Kind, b.Audience.AllTags = chat.BroadcastTag, []string{"red"} }, "a/phone b/phone"},
		"two tags": {func(b *chat.Broadcast) { b.Kind, b.Audience.AllTags = chat.BroadcastTag, []string{"blue", "red"} }, "b/phone"},
		"any tag":  {func(b *chat.Broadcast) { b.Kind, b.Audience.AnyTag = chat.BroadcastTag, []string{"blue", "green"} }, "b/phone"},
		"package": {func(b *chat.Broadcast) {
			b.Kind, b.Audience.Package, b.Audience.Platforms = chat.BroadcastPackage, "com.example", []string{"android"}
			b.Message.Push.More = `{"platform":["android"]}`
		}, "p/phone"},
		"another platform": {func(b *chat.Broadcast) {
			b.Kind, b.Audience.Package, b.Audience.Platforms = chat.BroadcastPackage, "com.example", []string{"ios"}
			b.Message.Push.More = `{"platform":["ios"]}`
		}, ""},
		"to who is online": {func(b *chat.Broadcast) { b.Kind, b.Life = chat.BroadcastOnline, chat.OnlineLife }, ""},
		"disabled":         {func(b *chat.Broadcast) { b.Message.Push.Disabled = true }, ""},
		"nothing to say":   {func(b *chat.Broadcast) { b.Message.Type, b.Message.Flags = "app:x", chat.Missed }, ""},
		"silent": {func(b *chat.Broadcast) {
			b.Message.Type, b.Message.Flags, b.Message.Push.ContentAvailable = "app:x", chat.Missed, true
		}, ""}, // none of them is Apple's
		"what it says": {func(b *chat.Broadcast) {
			b.Message.Type, b.Message.Flags, b.Message.Push.Content = "app:x", chat.Missed, "hi"
		}, "a/phone b/phone c/phone d/phone p/other p/phone"},
	} {
		of := s.broadcast(c.change)
		s.pass(3 * time.Second)
		s.came()
		if got := strings.Join(s.who(of), " "); got != c.want {
			t.Errorf("%s: jobs of %q, want %q", name, got, c.want)
		}
	}
	for _, name := range []string{"push.enabled", ""} {
		if name != "" {
			s.set(name, "false")
		} else if err := s.dir.RemovePushCredential(context.Background(), s.app, &chat.PushCredential{Provider: chat.MEIZU}); err != nil {
			t.Fatal(err)
		}
		of := s.broadcast()
		s.pass(3 * time.Second)
		s.came()
		s.wantJobs(of)
		s.set("push.enabled", "true")
	}
}

// What users are given of a broadcast notifies by itself while it is new, as who
// was given it was connected; later it does not: they were notified of it then.
func TestBroadcastGiven(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.register("bob")
	s.register("cy")
	s.follow()
	of := s.broadcast()
	early := s.give(of, "bob")
	s.pass(3 * time.Second)
	s.came()
	s.passed()
	s.want(early, "away")
	s.wantJobs(of, "cy/phone")
	s.wantJobs(early, "bob/phone")
	s.pass(castOwn)
	late := s.give(of, "cy", "dora")
	other := s.append(&store.Append{Message: aBroadcast(s.app.ID).Message, Targets: []string{"cy"}})
	s.pass(3 * time.Second)
	s.passed()
	s.want(late, "broadcast", "broadcast")
	s.want(other, "away") // which only looks like it
	s.wantJobs(late)
}

// However the power is cut, a pass comes to everybody, and to nobody twice.
func TestPassSurvivesCrashes(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSentry(t)
	want := map[string]bool{}
	for i := range 4*castBatch + 7 {
		user := fmt.Sprint("u", i)
		s.register(user)
		if i%10 == 0 {
			s.connect(user, "ios", 0)
		}
		want[user+"/phone"] = true
	}
	// What was sent off is gone, so that whoever is come to twice has two jobs.
	jobs := map[chat.UID]map[string]bool{}
	sent := func() {
		t.Helper()
		c := &store.PushChange{Sync: true}
		for _, j := range s.jobs() {
			if jobs[j.UID] == nil {
				jobs[j.UID] = map[string]bool{}
			}
			if jobs[j.UID][j.User+"/"+j.Device] {
				t.Fatalf("%s of %s is told twice", j.User, j.UID)
			}
			jobs[j.UID][j.User+"/"+j.Device] = true
			c.Drop = append(c.Drop, j)
		}
		if err := s.store.ChangePush(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	var casts []chat.UID
	for range 10 {
		s.follow()
		casts = append(casts, s.broadcast())
		s.pass(time.Duration(rng.IntN(6000)) * time.Millisecond)
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		left := s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		s.stop()
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		s.fs = left
		s.open()
		sent()
	}
	s.follow()
	s.pass(10 * time.Second)
	s.came()
	sent()
	for i, of := range casts {
		if !maps.Equal(jobs[of], want) {
			t.Errorf("broadcast %d: %d jobs, want %d", i, len(jobs[of]), len(want))
		}
	}
}

// A pass waits while much is on its way to the providers, for others to have room.
func TestPassWaits(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.Queue = 1000
	for i := range 3 * castBatch {
		s.register(fmt.Sprint("u", i))
	}
	s.follow()
	of := s.broadcast()
	s.pass(3 * time.Second)
	s.until("it begins", func() bool { return len(s.who(of)) > 0 })
	time.Sleep(3 * followTick) // nothing must happen
	if n := len(s.who(of)); n != castBatch {
		t.Fatalf("%d jobs wait", n)
	}
	if passes, _, err := s.store.PushPasses(context.Background()); err != nil || len(passes) != 1 || passes[0].Behind == "" {
		t.Fatalf("passes %+v, %v", passes, err)
	}
	// What is for everybody leaves half of the room.
	l := s.lanes.lane(store.PushLane{App: s.app.ID, Provider: chat.MEIZU})
	if all, usual := l.room(priorityAll), l.room(priorityUsual); all != 0 || usual != 400 {
		t.Errorf("room for %d and %d", all, usual)
	}
	// A lane that stands still keeps nobody else waiting.
	l.mu.Lock()
	l.standSince = s.now()
	l.mu.Unlock()
	s.came()
}

// broadcastTo is newReader with a broadcast.
func broadcastTo(t *testing.T) (*world, chat.UID) {
	w := newReader(t)
	return w, w.broadcast()
}

func (w *world) broadcast(change ...func(*chat.Broadcast)) chat.UID {
	w.t.Helper()
	a := aBroadcast(w.app.ID, change...)
	if err := w.store.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
	return a.Placed.First
}

func (w *world) came() {
	w.t.Helper()
	w.pass(3 * time.Second)
	w.until("broadcasts have come to all", func() bool {
		passes, met, err := w.store.PushPasses(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		list, err := w.store.BroadcastsBehind(w.t.Context(), met, 1)
		return err == nil && len(passes)+len(list) == 0
	})
}

func (w *world) take(of chat.UID, user string) chat.UID {
	w.t.Helper()
	a := &store.Append{
		Message: aBroadcast(w.app.ID).Message, Targets: []string{user}, Taking: &store.Taking{Of: of, Pass: true}, History: true,
	}
	if err := w.store.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
	return a.Placed.First
}

func TestBroadcastIsTold(t *testing.T) {
	t.Parallel()
	w, of := broadcastTo(t)
	w.came()
	w.done()
	list := w.sentTo("bob")
	if len(list) != 3 {
		t.Fatalf("%d notifications, want 3", len(list))
	}
	for _, s := range list {
		if s.uid != of.String() || s.title != "ann" || s.body != "hear ye" || s.silent {
			t.Errorf("%+v", s)
		}
	}
	outcomes, err := w.store.PushOutcomes(t.Context(), of)
	if err != nil || len(outcomes) != 3 || outcomes[0].Class != "accepted" {
		t.Errorf("outcomes %+v, %v", outcomes, err)
	}
	// Who is given it later and reads it has it taken back.
	w.pass(time.Hour)
	uid := w.take(of, "bob")
	w.done()
	ch := store.ChannelRef{App: w.app.ID, Owner: "bob", Type: chat.System, Channel: "ann"}
	if err := w.store.Append(t.Context(), &store.Append{
		Message: &chat.Message{App: w.app.ID, ChannelType: chat.Direct, Flags: chat.Missed, From: "bob", Event: &chat.Event{
			Kind: chat.EventRead, UpTo: uid, ChannelType: chat.System, Channel: "ann",
		}},
		Targets: []string{"bob"}, Views: []store.ViewChange{{Channel: ch, View: &chat.View{ReadUpTo: uid}}},
	}); err != nil {
		t.Fatal(err)
	}
	w.done()
	w.wantWithdrawn(3, "all", of)
}

// Who is connected is given it there, and notified only if they are not.
func TestBroadcastToWhoIsConnected(t *testing.T) {
	t.Parallel()
	w := newReader(t)
	w.phone("cy", chat.VIVO)
	w.mu.Lock()
	for _, user := range []string{"bob", "cy"} {
		w.cursors[user] = []push.Cursor{{Platform: "ios", Live: true}}
	}
	w.mu.Unlock()
	of := w.broadcast()
	w.came()
	if n := w.left(chat.VIVO); n != 2 {
		t.Errorf("%d wait", n)
	}
	w.take(of, "bob")
	w.mu.Lock()
	w.cursors["bob"] = []push.Cursor{{Platform: "ios", Live: true, Offset: 1}}
	w.cursors["cy"] = nil
	w.mu.Unlock()
	w.followed()
	if n := len(w.sentTo("")); n != 0 {
		t.Errorf("%d notifications", n)
	}
	w.pass(castWait)
	w.done()
	if bob, cy := len(w.sentTo("bob")), len(w.sentTo("cy")); bob != 0 || cy != 1 {
		t.Errorf("%d and %d notifications", bob, cy)
	}
}

// A broadcast that is recalled is not told any more, and taken back where it was.
func TestBroadcastRecalled(t *testing.T) {
	t.Parallel()
	t.Run("before its pass", func(t *testing.T) {
		t.Parallel()
		w, of := broadcastTo(t)
		w.broadcast(recalls(of))
		time.Sleep(2 * castFresh) // what is so new may not be known yet
		w.came()
		w.done()
		if n := len(w.sentTo("bob")); n != 0 {
			t.Errorf("%d notifications", n)
		}
	})
	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		w := newReader(t)
		w.result(push.Result{Class: push.RetryAfter, Code: "429", After: time.Minute})
		of := w.broadcast()
		w.came()
		w.until("it was tried", func() bool { return len(w.sentTo("bob")) == 3 && w.d.settler.behind() == 0 })
		w.broadcast(recalls(of))
		w.came()
		w.result(accepted)
		time.Sleep(2 * castFresh)
		w.pass(2 * time.Minute)
		w.done()
		if n := len(w.sentTo("bob")); n != 3 {
			t.Errorf("%d notifications", n-3)
		}
		if list, err := w.store.PushOutcomes(t.Context(), of); err != nil || len(list) != 3 || list[0].Class != "recalled" {
			t.Errorf("outcomes %+v, %v", list, err)
		}
	})
	t.Run("after it was told", func(t *testing.T) {
		t.Parallel()
		w, of := broadcastTo(t)
		w.phone("cy", chat.APNs)
		w.came()
		w.done()
		w.phone("dora", chat.APNs)
		w.broadcast(recalls(of))
		w.came()
		w.done()
		w.wantWithdrawn(3, "one", of)
		if n := len(w.sentTo("cy")); n != 2 {
			t.Errorf("%d for cy", n)
		}
		if n := len(w.sentTo("dora")); n != 0 {
			t.Errorf("%d for dora, who never knew", n)
		}
	})
	t.Run("without a word", func(t *testing.T) {
		t.Parallel()
		w, of := broadcastTo(t)
		w.came()
		w.done()
		w.set("push.withdraw", "false")
		w.broadcast(recalls(of))
		w.came()
		w.done()
		if n := len(w.sentTo("bob")); n != 3 {
			t.Errorf("%d notifications", n-3)
		}
	})
}

// Users whose devices have the same name have an outcome of a broadcast each.
func TestBroadcastOutcomesAreOfUsers(t *testing.T) {
	t.Parallel()
	w, of := broadcastTo(t)
	w.phone("cy", chat.VIVO)
	w.came()
	w.done()
	list, err := w.store.PushOutcomes(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	var who []string
	for _, o := range list {
		who = append(who, o.User+"/"+o.Device)
	}
	if want := []string{"bob/APNs", "bob/FCM", "bob/VIVO", "cy/VIVO"}; !slices.Equal(who, want) {
		t.Errorf("outcomes of %q, want %q", who, want)
	}
}
