package courier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// A hall is a post whose clock stands still until it is moved.
type hall struct {
	*post
	t    *testing.T
	fs   vfs.FS
	reg  *registry
	time atomic.Int64
}

func newHall(t *testing.T) *hall {
	h := &hall{t: t, fs: vfs.NewMem(), reg: &registry{users: map[string]*chat.User{}}}
	h.time.Store(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC).UnixMilli())
	h.open()
	h.set("broadcast.pace", "1000000")
	for _, name := range []string{"limits.broadcast-hour", "limits.broadcast-day"} {
		h.set(name, "0")
	}
	return h
}

func (h *hall) now() time.Time { return time.UnixMilli(h.time.Load()) }

func (h *hall) advance(d time.Duration) { h.time.Add(d.Milliseconds()) }

func (h *hall) open() { h.post = newPostAt(h.t, h.fs, h.reg, h.now) }

func (h *hall) reopen() {
	settings, connected := h.app.Settings, h.said.connected
	h.closeOnce()
	h.open()
	h.said.connected = connected
	h.use(settings)
}

// use gives the app other settings, as a change does: those in hand stay as they
// are.
func (h *hall) use(s chat.Settings) {
	app := *h.app
	app.Settings = s
	h.app = &app
	h.reg.app.Store(h.app)
}

func (h *hall) set(name, value string) {
	h.t.Helper()
	s := h.app.Settings
	if err := s.Set(name, value); err != nil {
		h.t.Fatal(err)
	}
	h.use(s)
}

func (h *hall) request(k chat.BroadcastKind, content string) *BroadcastRequest {
	return &BroadcastRequest{Kind: k, Message: &chat.Message{App: h.app.ID, ChannelType: chat.System, From: "news", Type: "app:text", Content: content}}
}

// broadcast sends a broadcast and gives its UID.
func (h *hall) broadcast(k chat.BroadcastKind, content string, a ...chat.Audience) chat.UID {
	h.t.Helper()
	q := h.request(k, content)
	for _, a := range a {
		q.Audience = a
	}
	sent, err := h.Broadcast(h.t.Context(), h.app, q)
	if err != nil {
		h.t.Fatal(err)
	}
	return sent.Placed[0].UID
}

func (h *hall) recall(uid chat.UID) {
	h.t.Helper()
	if err := h.RecallBroadcast(h.t.Context(), h.app, &BroadcastRecallRequest{UID: uid, From: "news", Admin: true, Extra: "x", RequestID: "r"}); err != nil {
		h.t.Fatal(err)
	}
}

// touch connects a user who was registered long ago, unless said otherwise.
func (h *hall) touch(user string, client ...chat.Client) int {
	h.t.Helper()
	u := h.reg.users[user]
	if u == nil {
		u = &chat.User{ID: user, CreatedAt: time.UnixMilli(1)}
	}
	c := chat.Client{}
	for _, c = range client {
	}
	n, err := h.Touch(h.t.Context(), h.app, u, c)
	if err != nil {
		h.t.Fatalf("touching %s: %v", user, err)
	}
	return n
}

// told is what a user's timeline tells: contents, and "-" before what was
// recalled. It checks that UIDs and offsets have one order.
func (h *hall) told(user string) (list []string) {
	h.t.Helper()
	entries, err := h.store.Read(h.t.Context(), h.app.ID, user, store.Range{Limit: 1000}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	contents := map[chat.UID]string{}
	for i, e := range entries {
		m, err := h.store.Message(h.t.Context(), e.Ref)
		if err != nil {
			h.t.Fatal(err)
		}
		if i > 0 && e.UID.Compare(entries[i-1].UID) <= 0 || e.Offset != uint64(i+1) {
			h.t.Errorf("%s: entry %d is %+v", user, i, e)
		}
		if m.Event == nil {
			contents[e.UID] = m.Content
			list = append(list, m.Content)
			continue
		}
		if m.Event.Kind != chat.EventRecall || m.Event.Operator != "news" || !m.Event.Admin || m.Event.Extra != "x" {
			h.t.Errorf("%s: event %+v", user, m.Event)
		}
		list = append(list, "-"+contents[m.Event.UID])
	}
	return list
}

func (h *hall) want(user string, want ...string) {
	h.t.Helper()
	if got := h.told(user); fmt.Sprint(got) != fmt.Sprint(want) {
		h.t.Errorf("%s was told %q, want %q", user, got, want)
	}
}

// connect says who is connected.
func (h *hall) connect(list ...Session) {
	h.said.mu.Lock()
	defer h.said.mu.Unlock()
	h.said.connected = list
}

// eventually waits until the pass has told the user this much.
func (h *hall) eventually(user string, want ...string) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); fmt.Sprint(h.told(user)) != fmt.Sprint(want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.want(user, want...)
			return
		}
	}
}

// Who was away gets what they missed when they come, once, as messages of that
// moment.
func TestBroadcastToThoseAway(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	if n := h.touch("early"); n != 0 {
		t.Errorf("%d entries of nothing", n)
	}
	one := h.broadcast(chat.BroadcastAll, "one")
	h.advance(time.Hour)
	h.broadcast(chat.BroadcastAll, "two")
	h.advance(time.Hour)
	came := h.now().UnixMilli()
	if n := h.touch("ann"); n != 2 {
		t.Errorf("%d entries", n)
	}
	h.want("ann", "one", "two")
	entries, err := h.store.Read(t.Context(), h.app.ID, "ann", store.Range{Limit: 9}, nil)
	if err != nil || entries[0].UID.Millis() < came || entries[0].UID.ChannelType() != chat.System || entries[0].UID == one {
		t.Errorf("%+v, %v", entries, err)
	}
	found, err := h.store.Find(t.Context(), h.app.ID, entries[0].UID)
	if err != nil || found.Message.From != "news" || found.History {
		t.Errorf("%+v, %v", found, err)
	}
	for range 2 {
		if n := h.touch("ann"); n != 0 {
			t.Errorf("%d entries again", n)
		}
		h.reopen()
	}
	h.broadcast(chat.BroadcastAll, "three")
	h.touch("ann")
	h.want("ann", "one", "two", "three")

	// Seven days after the first it has ended.
	h.advance(7*24*time.Hour - 90*time.Minute)
	h.touch("late")
	h.want("late", "two", "three")
	h.advance(24 * time.Hour)
	h.reopen()
	if n := h.touch("later"); n != 0 {
		t.Errorf("%d entries after all has ended", n)
	}
}

// Who is new gets the broadcasts of the days that the app says.
func TestBroadcastToNewUsers(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	join := func(user string) {
		h.reg.users[user] = &chat.User{ID: user, CreatedAt: h.now()}
	}
	h.broadcast(chat.BroadcastAll, "old")
	h.advance(36 * time.Hour)
	h.broadcast(chat.BroadcastAll, "new")
	h.advance(time.Hour)
	for _, tt := range []struct {
		days string
		want []string
	}{{"7", []string{"old", "new"}}, {"1", []string{"new"}}, {"0", nil}} {
		h.set("broadcast.days", tt.days)
		user := "new" + tt.days
		join(user)
		h.connect(Session{User: user})
		h.touch(user)
		h.want(user, tt.want...)
		h.touch("known" + tt.days)
		h.want("known"+tt.days, "old", "new")
	}
	// The pass knows who is new as well.
	h.advance(time.Hour)
	h.broadcast(chat.BroadcastAll, "now")
	h.eventually("new0", "now")
}

// Who is connected gets it by the pass, and nobody twice, whatever happens at
// once.
func TestBroadcastPass(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	const users = 1200 // several batches
	var list []Session
	for i := range users {
		for range 1 + i%2 {
			list = append(list, Session{User: fmt.Sprint("u", i)})
		}
	}
	slicesByPart(list)
	h.connect(list...)
	var wg sync.WaitGroup
	for w := range 4 {
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		wg.Go(func() {
			for range 600 {
				h.touch(fmt.Sprint("u", rng.IntN(users)))
			}
		})
	}
	for _, content := range []string{"1", "2", "3"} {
		h.broadcast(chat.BroadcastAll, content)
	}
	wg.Wait()
	for i := range users {
		h.eventually(fmt.Sprint("u", i), "1", "2", "3")
	}
}

// slicesByPart puts the sessions of a user in one part, as the fake parts them.
func slicesByPart(list []Session) {
	var even, odd []Session
	for _, s := range list {
		if s.User[len(s.User)-1]%2 == 0 {
			even = append(even, s)
		} else {
			odd = append(odd, s)
		}
	}
	for i := range list {
		switch {
		case (i%2 == 0 || len(odd) == 0) && len(even) > 0:
			list[i], even = even[0], even[1:]
		default:
			list[i], odd = odd[0], odd[1:]
		}
	}
}

func TestBroadcastOnline(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	h.set("broadcast.days", "0")
	h.connect(Session{User: "there"})
	uid := h.broadcast(chat.BroadcastOnline, "hello")
	h.eventually("there", "hello")
	h.advance(9 * time.Minute)
	h.reg.users["new"] = &chat.User{ID: "new", CreatedAt: h.now()}
	h.touch("new")
	h.want("new", "hello")
	h.reopen()
	h.touch("soon")
	h.want("soon", "hello")
	h.advance(2 * time.Minute)
	h.touch("late")
	h.want("late")
	err := h.RecallBroadcast(t.Context(), h.app, &BroadcastRecallRequest{UID: uid, From: "news"})
	wantError(t, err, chat.KindInvalid, "messageUID: a broadcast to those who are online cannot be recalled")

	// What is never kept reaches only those who are there.
	q := h.request(chat.BroadcastOnline, `{}`)
	q.Message.Type = "RC:TypSts"
	if _, err := h.Broadcast(t.Context(), h.app, q); err != nil {
		t.Fatal(err)
	}
	h.advance(time.Second)
	h.touch("soon")
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		h.said.mu.Lock()
		whispers := fmt.Sprint(h.said.whispers)
		h.said.mu.Unlock()
		if whispers == "[there<news>]" {
			break
		}
		if time.Now().After(end) {
			t.Fatal(whispers)
		}
	}
	h.want("there", "hello")
}

func wantError(t *testing.T, err error, kind chat.Kind, text string) {
	t.Helper()
	if err == nil || chat.KindOf(err) != kind || text != "" && err.Error() != text {
		t.Errorf("got %v, want kind %v, %q", err, kind, text)
	}
}

func TestBroadcastRecall(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	h.connect(Session{User: "there"})
	uid := h.broadcast(chat.BroadcastAll, "oops")
	h.eventually("there", "oops")
	h.touch("away")
	h.touch("self")
	h.want("away", "oops")

	for _, tt := range []struct {
		q    BroadcastRecallRequest
		kind chat.Kind
		text string
	}{
		{BroadcastRecallRequest{UID: uid, From: "eve"}, chat.KindInvalid, "fromUserId: did not send this message"},
		{BroadcastRecallRequest{UID: uid.Plus(1000), From: "news"}, chat.KindNotFound, "messageUID: no such broadcast of the last 7 days"},
		{BroadcastRecallRequest{UID: uid, From: "news", Extra: fmt.Sprintf("%4097d", 1)}, chat.KindTooLong, "extra: at most 4096 characters, got 4097"},
		{BroadcastRecallRequest{UID: h.broadcast(chat.BroadcastTag, "t", chat.Audience{AllTags: []string{"nobody"}}), From: "news"},
			chat.KindInvalid, "messageUID: only broadcasts to all users can be recalled"},
	} {
		wantError(t, h.RecallBroadcast(t.Context(), h.app, &tt.q), tt.kind, tt.text)
	}
	// One of them takes theirs back before: it stays as it was.
	entries, err := h.store.Read(t.Context(), h.app.ID, "self", store.Range{Limit: 9}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Recall(t.Context(), h.app, &RecallRequest{Admin: true, Extra: "x", Subject: Subject{UID: entries[0].UID, From: "news", Type: chat.System, Channel: "self"}}); err != nil {
		t.Fatal(err)
	}

	h.advance(time.Hour)
	h.recall(uid)
	h.recall(uid) // nothing more
	h.eventually("there", "oops", "-oops")
	h.touch("never")
	h.want("never")
	for range 2 {
		h.touch("away")
		if n := h.touch("self"); n != 0 {
			t.Errorf("%d entries to who had taken it back before", n)
		}
		h.want("away", "oops", "-oops")
		h.want("self", "oops", "-oops")
		h.reopen()
	}
	h.broadcast(chat.BroadcastAll, "next")
	h.eventually("there", "oops", "-oops", "next")
	h.touch("never")
	h.want("never", "next")
	if n := h.touch("away"); n != 1 {
		t.Errorf("%d entries", n)
	}
	h.want("away", "oops", "-oops", "next")
	states, err := h.store.Overlays(t.Context(), h.app.ID, []chat.UID{entries[0].UID})
	if err != nil || states[0] == nil || states[0].Recall == nil {
		t.Errorf("%v, %v", states, err)
	}

	// A recall reaches those who were given it on the last day, too.
	h.reg.users["last"] = &chat.User{ID: "last"}
	other := h.broadcast(chat.BroadcastAll, "other")
	h.advance(7*24*time.Hour - time.Minute)
	h.touch("last")
	h.recall(other)
	h.advance(6 * 24 * time.Hour)
	if err := h.store.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if n := h.touch("last"); n != 1 {
		t.Errorf("%d entries", n)
	}
	wantError(t, h.RecallBroadcast(t.Context(), h.app, &BroadcastRecallRequest{UID: uid, From: "news"}), chat.KindNotFound, "")
}

// A recall at the very moment at which a user comes: they have both or neither.
func TestBroadcastRecallAtOnce(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	h.set("limits.broadcast-hour", "0")
	h.set("limits.broadcast-day", "0")
	var late []string
	for round := range 40 {
		content := fmt.Sprint("round ", round)
		// While this is held nobody gives her anything.
		end, err := turn.Take(t.Context(), h.visits, userKey{h.app.ID, "ann"})
		if err != nil {
			t.Fatal(err)
		}
		h.connect(Session{User: "ann"})
		uid := h.broadcast(chat.BroadcastAll, content)
		var wg sync.WaitGroup
		wg.Go(func() { h.touch("ann") })
		wg.Go(func() { h.recall(uid); end() })
		wg.Wait()
		// The pass of the next broadcast comes behind that of the recall.
		h.broadcast(chat.BroadcastAll, content+" end")
		late = append(late, content+" end")
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			told := h.told("ann")
			if len(told) > 0 && told[len(told)-1] == content+" end" {
				if fmt.Sprint(told) != fmt.Sprint(late) {
					t.Fatalf("ann was told %q", told)
				}
				break
			}
			if time.Now().After(end) {
				t.Fatalf("ann was told %q", told)
			}
		}
	}
}

func TestBroadcastAudiences(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	h.reg.users["beta"] = &chat.User{ID: "beta", CreatedAt: time.UnixMilli(1), Tags: []string{"beta", "de"}}
	h.connect(Session{User: "beta"}, Session{User: "other"})
	h.broadcast(chat.BroadcastTag, "for beta", chat.Audience{AllTags: []string{"beta"}, AnyTag: []string{"fr", "de"}})
	h.eventually("beta", "for beta")
	h.broadcast(chat.BroadcastTag, "for all")
	h.eventually("beta", "for beta", "for all")
	h.eventually("other", "for all")
	h.touch("beta")
	// Whoever has the tag when they come: also when they got it since.
	h.touch("later")
	h.want("later", "for all")
	h.reg.users["later"] = &chat.User{ID: "later", CreatedAt: time.UnixMilli(1), Tags: []string{"beta", "fr"}}
	h.touch("later")
	h.touch("later")
	h.want("later", "for all", "for beta")
	h.want("beta", "for beta", "for all")

	h.connect(
		Session{User: "phone", Client: chat.Client{Platform: "web"}}, Session{User: "phone", Client: chat.Client{Platform: "iOS", Package: "p"}},
		Session{User: "web", Client: chat.Client{Platform: "web", Package: "p"}},
	)
	h.broadcast(chat.BroadcastPackage, "for p", chat.Audience{Package: "p", Platforms: []string{"ios", "web"}})
	h.eventually("phone", "for all", "for p")
	h.eventually("web", "for all")
	h.touch("web", chat.Client{Platform: "web", Package: "p"})
	h.want("web", "for all")
	// Later with a phone.
	h.touch("web", chat.Client{Platform: "ios", Package: "p"})
	h.touch("web", chat.Client{Platform: "ios", Package: "p"})
	h.want("web", "for all", "for p")
}

func TestBroadcastLimits(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	h.set("limits.broadcast-hour", "2/h")
	h.set("limits.broadcast-day", "3/d")
	try := func(k chat.BroadcastKind) error {
		_, err := h.Broadcast(t.Context(), h.app, h.request(k, "x"))
		return err
	}
	all := func(k chat.BroadcastKind, fits bool) {
		t.Helper()
		if err := try(k); (err == nil) != fits || !fits && chat.KindOf(err) != chat.KindRate {
			t.Errorf("%v: %v", k, err)
		}
	}
	all(chat.BroadcastAll, true)
	all(chat.BroadcastTag, true)
	all(chat.BroadcastPackage, false)
	h.advance(time.Hour)
	all(chat.BroadcastPackage, true)
	// The day refuses, and the hour is not spent by it.
	for range 5 {
		all(chat.BroadcastAll, false)
	}
	h.advance(7 * time.Hour)
	all(chat.BroadcastAll, true)
	all(chat.BroadcastAll, false)

	for range 60 {
		all(chat.BroadcastOnline, true)
	}
	all(chat.BroadcastOnline, false)
	h.advance(time.Second)
	all(chat.BroadcastOnline, true)

	// Recalls have a pair of their own; what is recalled already costs nothing.
	h.set("limits.broadcast-hour", "0")
	h.set("limits.broadcast-day", "0")
	var uids []chat.UID
	for range 3 {
		uids = append(uids, h.broadcast(chat.BroadcastAll, "x"))
	}
	h.set("limits.broadcast-hour", "2/h")
	h.set("limits.broadcast-day", "3/d")
	for range 3 {
		h.recall(uids[0])
	}
	h.recall(uids[1])
	wantError(t, h.RecallBroadcast(t.Context(), h.app, &BroadcastRecallRequest{UID: uids[2], From: "news"}), chat.KindRate, "")

	// There is a bound whatever the limits are.
	h.set("limits.broadcast-online", "0")
	for i := 0; ; i++ {
		err := try(chat.BroadcastOnline)
		if err != nil {
			wantError(t, err, chat.KindRate, "1000 broadcasts of the last 7 days are alive, and there may not be more")
			break
		}
		if i > MaxBroadcasts {
			t.Fatal("no bound")
		}
	}
	h.set("broadcast.enabled", "false")
	wantError(t, try(chat.BroadcastAll), chat.KindFeatureOff, "broadcasts are switched off for this app (broadcast.enabled)")
}

// Whatever a power cut takes, each user has each broadcast once in the end, and
// each recall of what they have.
func TestBroadcastCrash(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	fs := vfs.NewCrashableMem()
	const users = 40
	var contents []string
	for round := range 6 {
		p := newPost(t, fs, nil)
		p.app.Settings.LimitBroadcastHour, p.app.Settings.LimitBroadcastDay = chat.Rate{}, chat.Rate{}
		p.app.Settings.BroadcastPace = 1_000_000
		content := fmt.Sprint("round ", round)
		q := &BroadcastRequest{Kind: chat.BroadcastAll, Message: &chat.Message{App: p.app.ID, ChannelType: chat.System, From: "news", Type: "app:text", Content: content}}
		var list []Session
		for i := range users / 2 {
			list = append(list, Session{User: fmt.Sprint("u", 2*i)}, Session{User: fmt.Sprint("u", 2*i+1)})
		}
		p.said.connected = list
		sent, err := p.Broadcast(t.Context(), p.app, q)
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			if err := p.RecallBroadcast(t.Context(), p.app, &BroadcastRecallRequest{UID: sent.Placed[0].UID, From: "news"}); err != nil {
				t.Fatal(err)
			}
		} else {
			contents = append(contents, content)
		}
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range users {
					u := &chat.User{ID: fmt.Sprint("u", (i*7+w*11)%users), CreatedAt: time.UnixMilli(1)}
					if _, err := p.Touch(context.Background(), p.app, u, chat.Client{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		wg.Wait()
		p.closeOnce()
		fs = clone
	}
	p := newPost(t, fs, nil)
	for i := range users {
		u := &chat.User{ID: fmt.Sprint("u", i), CreatedAt: time.UnixMilli(1)}
		for range 2 {
			if _, err := p.Touch(t.Context(), p.app, u, chat.Client{}); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := p.store.Read(t.Context(), p.app.ID, u.ID, store.Range{Limit: 1000}, nil)
		if err != nil {
			t.Fatal(err)
		}
		had := map[string]int{}
		recalled := map[chat.UID]int{}
		open := 0
		for _, e := range entries {
			m, err := p.store.Message(t.Context(), e.Ref)
			switch {
			case errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) || err != nil:
				t.Fatal(err)
			case m.Event != nil:
				recalled[m.Event.UID]++
				open--
			default:
				had[m.Content]++
				open++
			}
		}
		for _, content := range contents {
			if had[content] != 1 {
				t.Errorf("%s has %q %d times", u.ID, content, had[content])
			}
		}
		for content, n := range had {
			if n != 1 {
				t.Errorf("%s has %q %d times", u.ID, content, n)
			}
		}
		for uid, n := range recalled {
			if n != 1 {
				t.Errorf("%s was told %d times that %s is recalled", u.ID, n, uid)
			}
		}
		if open != len(contents) {
			t.Errorf("%s has %d messages that are not recalled, want %d", u.ID, open, len(contents))
		}
	}
}
