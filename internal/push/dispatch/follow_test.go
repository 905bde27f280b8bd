package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

// A sentry is a follower over the real engine, under a clock of its own. Who is
// connected is what the test says.
type sentry struct {
	*Dispatcher
	t       testing.TB
	fs      *vfs.MemFS
	store   *pebble.Store
	dir     *directory.Directory
	app     *chat.App
	metrics *prometheus.Registry
	stop    func()

	mu     sync.Mutex
	clock  time.Time
	online map[string][]push.Cursor
	probes []string
}

func newSentry(t testing.TB, settings ...string) *sentry {
	s := &sentry{t: t, fs: vfs.NewCrashableMem(), clock: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), online: map[string][]push.Cursor{}}
	s.open()
	for i := 0; i < len(settings); i += 2 {
		s.set(settings[i], settings[i+1])
	}
	s.credential(chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "s"}})
	t.Cleanup(func() {
		s.stop()
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sentry) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *sentry) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// Cursors and Probe are those of the gateway.
func (s *sentry) Cursors(_ chat.AppID, user string) ([]push.Cursor, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.online[user])
	return list, slices.ContainsFunc(list, func(c push.Cursor) bool { return c.Live })
}

func (s *sentry) Probe(_ chat.AppID, user string, offset uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes = append(s.probes, fmt.Sprintf("%s@%d", user, offset))
}

func (s *sentry) connect(user, platform string, offset uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online[user] = []push.Cursor{{Platform: platform, Offset: offset, Live: true}}
}

// open opens what the disk has, without following yet.
func (s *sentry) open() {
	var err error
	ctx, logger := context.Background(), slog.New(slog.DiscardHandler)
	s.store, err = pebble.Open(ctx, pebble.Options{Dir: "data", FS: s.fs, Now: s.now, Logger: logger, Consumers: []string{store.PushConsumer}, MinFree: 1, Ballast: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.dir, err = directory.Open(ctx, s.store, s.now); err != nil {
		s.t.Fatal(err)
	}
	if apps := s.dir.Apps(); len(apps) > 0 {
		s.app = apps[0]
	} else if s.app, err = s.dir.CreateApp(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.metrics = prometheus.NewRegistry()
	s.Dispatcher = New(Options{Store: s.store, Directory: s.dir, Sessions: s, Now: s.now, Logger: logger, Metrics: s.metrics})
	s.stop = func() {}
}

// follow has the follower run.
func (s *sentry) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Dispatcher.follow(ctx) })
	s.stop = func() { cancel(); wg.Wait() }
}

func (s *sentry) set(name, value string) {
	s.t.Helper()
	app, err := s.dir.SetApp(context.Background(), s.app.Key, map[string]string{name: value})
	if err != nil {
		s.t.Fatal(err)
	}
	s.app = app
}

func (s *sentry) credential(c chat.PushCredential) {
	s.t.Helper()
	if err := s.dir.SetPushCredential(context.Background(), s.app, &c, true); err != nil {
		s.t.Fatal(err)
	}
}

// register registers a device of the user's.
func (s *sentry) register(user string, change ...func(*chat.PushDevice)) {
	s.t.Helper()
	d := chat.PushDevice{ID: "phone", Provider: chat.MEIZU, Token: "token-of-" + user, RegisteredAt: 1, SeenAt: 1}
	for _, f := range change {
		f(&d)
	}
	if err := s.store.PutPushDevice(context.Background(), s.app.ID, user, &d); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sentry) append(a *store.Append) chat.UID {
	s.t.Helper()
	if err := s.store.Append(context.Background(), a); err != nil {
		s.t.Fatal(err)
	}
	return a.Placed.First
}

// send sends a text, or what it is changed to.
func (s *sentry) send(to string, change ...func(*chat.Message)) chat.UID {
	s.t.Helper()
	m := &chat.Message{
		App: s.app.ID, ChannelType: chat.Direct, From: "ann", Type: "RC:TxtMsg", Content: `{"content":"hi"}`,
		Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed, Persist: true,
	}
	for _, f := range change {
		f(m)
	}
	return s.append(&store.Append{Message: m, Targets: strings.Fields(to), History: true})
}

// recall takes a message back from one recipient, as courier does.
func (s *sentry) recall(uid chat.UID, from, to string) chat.UID {
	s.t.Helper()
	return s.append(&store.Append{
		Message: &chat.Message{
			App: s.app.ID, ChannelType: chat.Direct, From: from, Flags: chat.Missed,
			Event: &chat.Event{Kind: chat.EventRecall, UID: uid, Operator: from, At: s.now().UnixMilli()},
		},
		Targets: []string{to},
		States:  []store.StateChange{{UID: uid, History: true, State: &chat.State{Recall: &chat.Recall{Operator: from, At: s.now().UnixMilli()}}}},
		Marks:   []store.MarkChange{{Channel: store.ChannelRef{App: s.app.ID, Owner: to, Type: chat.Direct, Channel: from}, UID: uid, Mark: store.MarkRecalled}},
	})
}

const patience = time.Minute // of the tests: nothing that passes waits for it

func (s *sentry) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waiting in vain: %s", what)
		}
	}
}

// passed waits until the follower has come past everything that is old enough.
func (s *sentry) passed() {
	s.t.Helper()
	head := s.store.LogHead()
	s.until("the log is passed", func() bool {
		at, err := s.store.Watermark(context.Background(), store.PushConsumer)
		if err != nil {
			s.t.Fatal(err)
		}
		looks, err := s.store.PushLooks(context.Background(), s.now().UnixMilli(), 1)
		if err != nil {
			s.t.Fatal(err)
		}
		return at >= head && len(looks) == 0
	})
}

// reasons are the words for which the request's recipients are notified or not.
func (s *sentry) reasons(ref chat.UID) (words []string) {
	s.t.Helper()
	list, err := s.store.PushReasons(context.Background(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range list {
		if r == store.PushUndecided {
			words = append(words, "-")
		} else {
			words = append(words, push.Reason(r).String())
		}
	}
	return words
}

func (s *sentry) want(ref chat.UID, words ...string) {
	s.t.Helper()
	if got := s.reasons(ref); !slices.Equal(got, words) {
		s.t.Errorf("reasons %q, want %q", got, words)
	}
}

// jobs are all that wait, by user and device.
func (s *sentry) jobs() map[string]store.PushJob {
	s.t.Helper()
	jobs := map[string]store.PushJob{}
	lanes, err := s.store.PushLanes(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range lanes {
		for p := range uint8(store.PushPriorities) {
			list, err := s.store.PushJobs(context.Background(), &lanes[i], p, store.PushPlace{}, 1<<60, 100_000)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, j := range list {
				key := j.User + "/" + j.Device + "/" + j.UID.String()
				if _, twice := jobs[key]; twice {
					s.t.Errorf("two jobs of %s", key)
				}
				jobs[key] = j
			}
		}
	}
	return jobs
}

// Each recipient has the reason that holds for them, and whoever is away a job for
// each device.
func TestReasonsOfRecipients(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	ctx := context.Background()
	in := func(user string, v chat.View, p *chat.Preferences, marks ...store.MarkChange) {
		a := &store.Append{
			Message: &chat.Message{App: s.app.ID, ChannelType: chat.Direct, From: user, Flags: chat.Missed, Event: &chat.Event{Kind: chat.EventChannel}},
			Targets: []string{user}, Marks: marks,
			Views: []store.ViewChange{{Channel: store.ChannelRef{App: s.app.ID, Owner: user, Type: chat.Direct, Channel: "ann"}, View: &v}},
		}
		if p != nil {
			a.Preferences = &store.PreferencesChange{App: s.app.ID, User: user, Preferences: p}
		}
		s.append(a)
	}
	users := []string{
		"ann", "away", "nothing", "online", "desk", "gone", "gonedesk", "banned", "deleted", "read", "cleared", "hidden", "muted", "asleep", "typed", "two", "foreign", "old", "unbanned",
	}
	for _, u := range users {
		if u != "nothing" {
			s.register(u)
		}
	}
	s.register("two", func(d *chat.PushDevice) { d.ID, d.Token = "pad", "another" })
	s.register("foreign", func(d *chat.PushDevice) { d.Provider = chat.OPPO })
	if err := s.store.UpdateUsers(ctx, s.app.ID, []string{"banned", "deleted", "unbanned"}, func(u *chat.User) {
		switch u.ID {
		case "banned":
			u.BannedUntil = s.now().Add(time.Hour).UnixMilli()
		case "unbanned":
			u.BannedUntil = s.now().Add(time.Second).UnixMilli()
		default:
			u.DeletedAt = 1
		}
	}); err != nil {
		t.Fatal(err)
	}
	quiet := &chat.QuietHours{From: 0, To: 23*60 + 59, Zone: "UTC", Level: chat.NotifyNothing}
	in("muted", chat.View{Level: chat.NotifyNothing}, nil)
	in("typed", chat.View{}, &chat.Preferences{Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyMentions}})
	in("asleep", chat.View{}, &chat.Preferences{Quiet: quiet})
	ref := s.send(strings.Join(users, " "))
	at := func(user string) chat.UID { return ref.Plus(slices.Index(users, user)) }
	head := func(user string) uint64 {
		n, err := s.store.Head(ctx, s.app.ID, user)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	in("read", chat.View{ReadUpTo: at("read")}, nil)
	in("cleared", chat.View{ClearedUpTo: at("cleared")}, nil)
	in("hidden", chat.View{}, nil, store.MarkChange{Channel: store.ChannelRef{App: s.app.ID, Owner: "hidden", Type: chat.Direct, Channel: "ann"}, UID: at("hidden"), Mark: store.MarkHidden})
	s.connect("online", "ios", head("online"))
	s.connect("desk", "web", head("desk"))
	stored := func(user, epoch, platform string) store.UserDevice {
		return store.UserDevice{App: s.app.ID, User: user, Device: store.Device{ID: "d", Epoch: epoch, Offset: head(user), Platform: platform}}
	}
	if err := s.store.PutDevices(ctx, []store.UserDevice{stored("gone", s.store.Epoch(), "android"), stored("gonedesk", s.store.Epoch(), "windows"), stored("old", "another life", "android")}); err != nil {
		t.Fatal(err)
	}
	s.follow()
	s.pass(2 * time.Second)
	time.Sleep(3 * followTick) // nothing must happen
	if got := s.reasons(ref); got != nil {
		t.Errorf("decided within the grace: %q", got)
	}
	s.pass(time.Second)
	s.passed()
	s.want(ref, "copy", "away", "no_device", "reached", "reached_desktop", "reached", "reached_desktop", "banned", "deleted", "read", "read", "read",
		"level", "quiet_hours", "level", "away", "no_credential", "away", "away")
	jobs := s.jobs()
	var who []string
	for _, j := range jobs {
		who = append(who, j.User+"/"+j.Device)
		want := store.PushJob{
			Lane: store.PushLane{App: s.app.ID, Provider: chat.MEIZU}, Priority: 2,
			PushPlace: store.PushPlace{Due: ref.Millis() + 3000, UID: at(j.User), User: j.User, Device: j.Device},
			Ref:       ref, Offset: 1, MadeAt: s.now().UnixMilli(), Expires: ref.Millis() + (24 * time.Hour).Milliseconds(),
		}
		if j != want {
			t.Errorf("%s:\n got %+v\nwant %+v", j.User, j, want)
		}
	}
	slices.Sort(who)
	if want := []string{"away/phone", "old/phone", "two/pad", "two/phone", "unbanned/phone"}; !slices.Equal(who, want) {
		t.Errorf("jobs of %q, want %q", who, want)
	}
	if err := testutil.GatherAndCompare(s.metrics, strings.NewReader(`
# HELP parley_push_lag_seconds How long ago the first message that is not decided upon should have been.
# TYPE parley_push_lag_seconds gauge
parley_push_lag_seconds 0
`), "parley_push_lag_seconds"); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(s.deciding.alert); n != 4 {
		t.Errorf("%v alerts are counted", n)
	}
}

// What a message alone decides leaves nothing behind, and neither does an app that
// cannot push.
func TestNothingIsKeptOfMessagesThatNotifyNobody(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.register("bob")
	refs := []chat.UID{
		s.send("bob", func(m *chat.Message) { m.Push.Disabled = true }),
		s.send("bob", func(m *chat.Message) { m.Type, m.Flags = "RC:CmdMsg", chat.Missed }),
		s.append(&store.Append{Message: &chat.Message{App: s.app.ID, ChannelType: chat.Direct, From: "ann", Flags: chat.Missed, Event: &chat.Event{Kind: chat.EventReceipt}}, Targets: []string{"bob"}}),
	}
	s.follow()
	s.pass(time.Minute)
	s.passed()
	s.set("push.enabled", "false")
	refs = append(refs, s.send("bob"))
	s.pass(time.Minute)
	s.passed()
	for i, ref := range refs {
		if got := s.reasons(ref); got != nil {
			t.Errorf("%d: %q", i, got)
		}
	}
	s.set("push.enabled", "true")
	if err := s.dir.RemovePushCredential(context.Background(), s.app, &chat.PushCredential{Provider: chat.MEIZU}); err != nil {
		t.Fatal(err)
	}
	ref := s.send("bob")
	s.pass(time.Minute)
	s.passed()
	if got := s.reasons(ref); got != nil {
		t.Errorf("without credentials: %q", got)
	}
	if len(s.jobs()) != 0 {
		t.Errorf("jobs %v", s.jobs())
	}
	// Once there is one again, what comes from then on notifies.
	s.credential(chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "s"}})
	ref = s.send("bob")
	s.pass(time.Minute)
	s.passed()
	s.want(ref, "away")
}

// Whoever is connected and behind is asked for a pong, and looked at again when
// their time is over: what is so then holds.
func TestSecondLook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		first    func(*sentry)
		then     func(*sentry)
		probed   bool
		want     string
	}{
		"the pong comes":                   {first: func(s *sentry) { s.connect("bob", "ios", 0) }, then: func(s *sentry) { s.connect("bob", "ios", 1) }, probed: true, want: "reached"},
		"the line is dead":                 {first: func(s *sentry) { s.connect("bob", "ios", 0) }, probed: true, want: "away"},
		"the line is gone by then":         {first: func(s *sentry) { s.connect("bob", "ios", 0) }, then: func(s *sentry) { s.online = map[string][]push.Cursor{} }, probed: true, want: "away"},
		"a browser that answers":           {first: func(s *sentry) { s.connect("bob", "web", 0) }, then: func(s *sentry) { s.connect("bob", "web", 1) }, probed: true, want: "reached_desktop"},
		"a browser, and it does not count": {settings: []string{"push.despite-desktop", "true"}, first: func(s *sentry) { s.connect("bob", "web", 0) }, want: "away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSentry(t, c.settings...)
			s.register("bob")
			c.first(s)
			ref := s.send("ann bob cy")
			s.follow()
			s.pass(3 * time.Second)
			s.passed()
			if !c.probed {
				s.want(ref, "copy", c.want, "no_device")
				return
			}
			s.want(ref, "copy", "-", "no_device")
			s.mu.Lock()
			probes := strings.Join(s.probes, " ")
			s.mu.Unlock()
			if probes != "bob@1" {
				t.Errorf("probed: %q", probes)
			}
			if n := len(s.jobs()); n != 0 {
				t.Errorf("%d jobs before the time is over", n)
			}
			if c.then != nil {
				c.then(s)
			}
			s.pass(9999 * time.Millisecond)
			time.Sleep(3 * followTick) // nothing must happen
			s.want(ref, "copy", "-", "no_device")
			s.pass(time.Millisecond)
			s.until("the second look", func() bool { return !slices.Contains(s.reasons(ref), "-") })
			s.want(ref, "copy", c.want, "no_device")
			if n := len(s.jobs()); (n == 1) != (c.want == "away") {
				t.Errorf("%d jobs", n)
			}
			if looks, err := s.store.PushLooks(context.Background(), 1<<60, 10); err != nil || len(looks) != 0 {
				t.Errorf("looks %+v, %v are left", looks, err)
			}
		})
	}
}

func TestPrioritiesAndCollapsing(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.credential(chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "k", "masterSecret": "s"}})
	s.credential(chat.PushCredential{Provider: chat.HONOR, Fields: map[string]string{"appId": "k", "clientId": "c", "clientSecret": "s"}})
	s.register("bob")
	ext := `{"pushConfigs":[{"FCM":{"collapse_key":"k"}},{"APNs":{"apns-collapse-id":"a"}}]}`
	call := s.send("bob", func(m *chat.Message) { m.Type, m.Flags, m.Push.Content = "RC:VCInvite", chat.Missed, "call" })
	voice := s.send("bob", func(m *chat.Message) { m.Type = "RC:VcMsg"; m.Push.Ext = ext })
	mention := s.send("bob", func(m *chat.Message) {
		m.ChannelType, m.Content = chat.Group, `{"content":"x","mentionedInfo":{"type":2,"userIdList":["bob"]}}`
	})
	s.follow()
	s.pass(3 * time.Second)
	s.passed()
	got := map[chat.UID]store.PushJob{}
	for _, j := range s.jobs() {
		got[j.UID] = j
	}
	for ref, want := range map[chat.UID]struct {
		priority uint8
		life     time.Duration
	}{call: {0, time.Minute}, voice: {2, 24 * time.Hour}, mention: {1, 24 * time.Hour}} {
		j := got[ref]
		if j.Priority != want.priority || j.Expires-ref.Millis() != want.life.Milliseconds() || j.Collapse != 0 {
			t.Errorf("%s: %+v, want %+v", ref, j, want)
		}
	}
	send := push.NewSend(&chat.Message{Push: chat.PushOptions{Ext: ext}})
	a, f := collapseOf(send, chat.APNs), collapseOf(send, chat.FCM)
	if a == 0 || f == 0 || a == f || collapseOf(send, chat.HW) != 0 || collapseOf(push.NewSend(&chat.Message{}), chat.APNs) != 0 {
		t.Errorf("APNs %x, FCM %x", a, f)
	}
	if priorityOf(send, push.Silent, "bob") != 3 {
		t.Error("silent ones come last")
	}
}

// A recall is told to whoever was told of what it takes back, or has seen it.
func TestRecalls(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	for _, u := range []string{"away", "quick", "seen", "muted", "slow"} {
		s.register(u)
	}
	s.append(&store.Append{
		Message: &chat.Message{App: s.app.ID, ChannelType: chat.Direct, From: "muted", Flags: chat.Missed, Event: &chat.Event{Kind: chat.EventChannel}}, Targets: []string{"muted"},
		Preferences: &store.PreferencesChange{App: s.app.ID, User: "muted", Preferences: &chat.Preferences{Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyNothing}}},
	})
	s.connect("seen", "ios", 1)
	s.connect("slow", "ios", 0)
	ref := s.send("away seen muted slow none")
	s.follow()
	s.pass(3 * time.Second)
	s.passed()
	s.want(ref, "away", "reached", "level", "-", "no_device")

	// Sent while nobody was notified, which nothing tells of but that no reason is
	// there: so that is waited for, once.
	s.set("push.enabled", "false")
	dark := s.send("away")
	s.pass(3 * time.Second)
	s.passed()
	s.set("push.enabled", "true")
	quick := s.send("quick")
	s.online = map[string][]push.Cursor{"slow": s.online["slow"]}
	var recalls []chat.UID
	for i, u := range []string{"away", "seen", "muted", "slow", "none"} {
		recalls = append(recalls, s.recall(ref.Plus(i), "ann", u))
	}
	recalled := s.recall(quick, "ann", "quick")
	silent := s.send("away", func(m *chat.Message) { m.Push.Disabled = true })
	never := s.recall(silent, "ann", "away")
	unknown := s.recall(dark, "ann", "away")
	s.pass(3 * time.Second)
	s.passed()
	s.want(quick, "recalled")
	s.want(recalled, "recalled")
	s.want(never, "recalled")
	s.want(recalls[0], "away")
	s.want(recalls[1], "away")
	s.want(recalls[2], "recalled")
	s.want(recalls[3])
	s.want(recalls[4], "recalled")
	s.want(unknown)
	s.pass(10 * time.Second)
	s.until("the second look", func() bool { return s.reasons(recalls[3]) != nil && s.reasons(unknown) != nil })
	s.want(ref, "away", "reached", "level", "recalled", "no_device")
	s.want(recalls[3], "recalled")
	s.want(unknown, "recalled")
	var who []string
	for _, j := range s.jobs() {
		who = append(who, j.User)
	}
	slices.Sort(who)
	if want := []string{"away", "away", "seen"}; !slices.Equal(who, want) {
		t.Errorf("jobs of %q, want %q", who, want)
	}
}

// However the power is cut, in the end every recipient of a request has exactly one
// reason, and whoever is away one job: what was decided and lost is decided again,
// under the same names.
func TestFollowerSurvivesCrashes(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSentry(t)
	users := make([]string, 300)
	want := map[string]string{}
	for i := range users {
		users[i] = fmt.Sprint("u", i)
		switch i % 3 {
		case 0:
			s.register(users[i])
			want[users[i]] = "away"
		case 1:
			want[users[i]] = "no_device"
		default:
			s.register(users[i])
			s.connect(users[i], "ios", 0)
			want[users[i]] = "away"
		}
	}
	refs := map[chat.UID][]string{}
	for round := range 12 {
		s.follow()
		for range 5 {
			to := slices.Clone(users)
			rng.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
			to = to[:1+rng.IntN(len(to))]
			refs[s.send(strings.Join(to, " "))] = to
		}
		s.pass(time.Duration(rng.IntN(12000)) * time.Millisecond)
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		left := s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		s.stop()
		if err := s.store.Close(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s.fs = left
		s.open()
	}
	s.follow()
	for range 3 {
		s.pass(20 * time.Second)
		s.passed()
	}
	jobs := map[string]bool{}
	for key := range s.jobs() { // which sees to it that there is none twice
		jobs[key] = true
	}
	for ref, to := range refs {
		got := s.reasons(ref)
		if len(got) != len(to) {
			t.Fatalf("%d reasons for %d recipients", len(got), len(to))
		}
		for i, u := range to {
			key := u + "/phone/" + ref.Plus(i).String()
			if got[i] != want[u] || jobs[key] != (got[i] == "away") {
				t.Fatalf("%s: %s, want %s; a job: %t", u, got[i], want[u], jobs[key])
			}
			delete(jobs, key)
		}
	}
	if len(jobs) != 0 {
		t.Errorf("jobs of nothing: %v", slices.Collect(maps.Keys(jobs)))
	}
}

// flawed is a store in which some messages cannot be read, and one has us panic.
type flawed struct {
	*pebble.Store
	spoilt, deadly chat.UID
}

func (s *flawed) Message(ctx context.Context, ref chat.UID) (*chat.Message, error) {
	switch ref {
	case s.spoilt:
		return nil, fmt.Errorf("body: %w", store.ErrRow)
	case s.deadly:
		panic("a mistake of ours")
	}
	return s.Store.Message(ctx, ref)
}

// A message that cannot be read, or that we fail at, costs itself alone: whoever comes
// behind it, of any app, is notified.
func TestOneBadMessageCostsItself(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.register("bob")
	s.connect("bob", "ios", 0)
	seen := s.send("bob") // to be looked at again, when it cannot be read
	s.follow()
	s.pass(3 * time.Second)
	s.until("it is to be looked at again", func() bool {
		looks, err := s.store.PushLooks(context.Background(), 1<<60, 10)
		return err == nil && len(looks) == 1
	})
	s.stop()
	s.mu.Lock()
	s.online = map[string][]push.Cursor{}
	s.mu.Unlock()
	before := s.send("bob")
	deadly := s.send("bob")
	s.Dispatcher = New(Options{Store: &flawed{s.store, seen, deadly}, Directory: s.dir, Sessions: s, Now: s.now, Logger: slog.New(slog.DiscardHandler)})
	// A look at somebody whom the message was not given to.
	if err := s.store.ChangePush(context.Background(), &store.PushChange{Look: []store.PushLook{{Due: s.now().UnixMilli(), Ref: before, App: s.app.ID, Targets: []int{0, 7}}}}); err != nil {
		t.Fatal(err)
	}
	after := s.send("bob")
	s.follow()
	s.pass(20 * time.Second)
	s.passed()
	s.want(seen)
	s.want(deadly)
	s.want(before, "away")
	s.want(after, "away")
	if n := len(s.jobs()); n != 2 {
		t.Errorf("%d jobs", n)
	}
	if n := testutil.ToFloat64(s.deciding.passedOver); n != 3 {
		t.Errorf("%v are counted", n)
	}
	if looks, err := s.store.PushLooks(context.Background(), 1<<60, 10); err != nil || len(looks) != 0 {
		t.Errorf("looks %v, %v are left", looks, err)
	}
}

// When the clock is put back, whoever is away is notified all the same: of what was sent
// before and after it, and who was to be looked at again.
func TestClockPutBack(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	for _, u := range []string{"bob", "cy"} {
		s.register(u)
	}
	s.connect("cy", "ios", 0)
	s.follow()
	slow := s.send("cy")
	s.pass(3 * time.Second)
	s.until("it is to be looked at again", func() bool {
		looks, err := s.store.PushLooks(context.Background(), 1<<60, 10)
		return err == nil && len(looks) == 1
	})
	before := s.send("bob")
	s.pass(-time.Hour)
	var after []chat.UID
	for range followBatch + 10 { // more than are read at a time
		after = append(after, s.send("bob"))
	}
	time.Sleep(2 * followTick) // nothing must happen
	if got := s.reasons(after[0]); got != nil {
		t.Errorf("within the grace it is decided: %q", got)
	}
	s.until("all are decided upon, long before the hour is over", func() bool {
		s.pass(50 * time.Millisecond)
		return s.reasons(after[len(after)-1]) != nil && s.reasons(slow) != nil
	})
	s.want(slow, "away")
	s.want(before, "away")
	for _, ref := range after {
		s.want(ref, "away")
	}
	for key, j := range s.jobs() {
		if j.Due > s.now().UnixMilli() {
			t.Errorf("%s is due in %v", key, time.UnixMilli(j.Due).Sub(s.now()))
		}
	}
}

// Who is to be looked at again when the app cannot push any more is decided upon all
// the same, once.
func TestSwitchedOffBetweenLooks(t *testing.T) {
	t.Parallel()
	s := newSentry(t)
	s.register("bob")
	s.connect("bob", "ios", 0)
	ref := s.send("cy bob")
	s.follow()
	s.pass(3 * time.Second)
	s.until("the first look", func() bool { return s.reasons(ref) != nil })
	s.set("push.enabled", "false")
	s.pass(10 * time.Second)
	s.until("the second look", func() bool { return len(s.reasons(ref)) == 2 })
	s.set("push.enabled", "true")
	s.want(ref, "no_device", "push_off")
	if n := len(s.jobs()); n != 0 {
		t.Errorf("%d jobs", n)
	}
}
